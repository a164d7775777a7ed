"""Large pictures: what ``lookm plan`` says of them, against the memory of a process that reads
them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import lookm_cpp
import numpy as np
import pytest
from lookm_cpp.cli import main
from lookm_cpp.embedded import MMPROJ, MODEL
from PIL import Image
from zoo.pairs import Files, write_pair

MIB = 1 << 20
RUN = """
import json, sys
from pathlib import Path
from lookm_cpp import Llava
from lookm_cpp.bench.process_memory import PeakMemory, give_back, status_bytes
from lookm_cpp.images import Picture

model, mmproj, picture, small, n = json.loads(sys.argv[1])
opened, decode = [], Picture.pixels

def pixels(self):
    opened.append(status_bytes("VmRSS"))
    return decode(self)

def until_reading_begins(phase, done, total):
    raise KeyboardInterrupt

def ask(images):
    with Llava(model, mmproj=mmproj, n_threads=1, n_ctx=1 << 17) as llm:
        try:
            llm.ask("Which?", images, max_tokens=1, progress=until_reading_begins)
        except KeyboardInterrupt:
            pass

# files of different bytes, as one that was decoded before is not decoded again
files = [f"{picture}.{i}.jpg" for i in range(n)]
for i, file in enumerate(files):
    Path(file).write_bytes(Path(picture).read_bytes() + bytes([i]))
ask([small])
Picture.pixels = pixels
give_back()
with PeakMemory() as memory:
    ask(files)
print(json.dumps([len(opened), None if memory.peak is None else memory.peak - opened[0]]))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A picture of 12 megapixels, and a small one."""
    folder = tmp_path_factory.mktemp("pictures")
    array = np.empty((3000, 4000, 3), dtype=np.uint8)
    array[:, :, 0] = np.linspace(0, 255, 4000)
    array[:, :, 1] = np.linspace(0, 255, 3000)[:, None]
    array[:, :, 2] = 90
    Image.fromarray(array).save(folder / "large.jpg")
    Image.fromarray(array[:64, :64]).save(folder / "small.jpg")
    return folder / "large.jpg", folder / "small.jpg"


@pytest.mark.parametrize(
    ("name", "n", "tolerance"),
    [
        ("embedded", 12, 0.03),
        ("llava-1.6", 4, 0.03),
        ("qwen2-vl", 3, 0.03),
        ("hunyuan-vl", 3, 0.06),
    ],
)
def test_one_picture_is_decoded_at_a_time(
    name: str, n: int, tolerance: float, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    """All at once the twelve would take 412 MiB in RGB alone. Qwen2-VL's encoder gets 4 of 12
    megapixels, as floats.

    HunyuanVL's images are prepared twice, and malloc keeps what was freed between.
    """
    files = Files(MODEL, MMPROJ) if name == "embedded" else write_pair(name, tmp_path)
    asked = json.dumps([str(files.model), str(files.mmproj), *map(str, pictures), n])
    child = subprocess.run(
        [sys.executable, "-c", RUN, asked], capture_output=True, text=True, check=True
    )
    n_decoded, measured = json.loads(child.stdout)
    assert n_decoded == (2 * n - 1 if name == "hunyuan-vl" else n)
    if measured is None:
        pytest.skip("the kernel does not say how much memory a process has had")
    options: Any = {"images": n, "image_size": (4000, 3000), "question": "Which?", "n_ctx": 1 << 17}
    found = lookm_cpp.plan(files.model, mmproj=files.mmproj, **options)
    assert measured == pytest.approx(found["preparing"]["pictures"], rel=tolerance)
    assert found["peak_bytes"] >= found["preparing"]["total"]


def test_a_picture_that_does_not_fit_while_it_is_decoded(capfd: pytest.CaptureFixture[str]) -> None:
    """It has seven bytes a pixel then: 320 MiB."""
    command = [
        "plan",
        "-m",
        "embedded",
        "--images",
        "1",
        "--image-size",
        "8000x6000",
        "--json",
        "--memory",
    ]
    found = {}
    for memory in ("300MiB", "350MiB"):
        assert main([*command, memory]) == 0
        found[memory] = json.loads(capfd.readouterr().out)
    assert not found["300MiB"]["fits"]
    assert found["300MiB"]["most_images"] == 0
    assert found["350MiB"]["fits"]
    assert found["350MiB"]["preparing"]["pictures"] == 7 * 8000 * 6000
    assert main([*command[:-2], "--memory", "350MiB"]) == 0
    assert "Most of it is pictures: 320.4 MiB of " in capfd.readouterr().out
