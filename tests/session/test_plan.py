"""``lookm plan`` against what a real run allocates, by llama.cpp's own log and by the operating
system.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import lookm_cpp
import pytest
from lookm_cpp.cli import main
from lookm_cpp.embedded import MMPROJ, MODEL
from zoo.pairs import PAIRS, Files, write_pair

Capture = pytest.CaptureFixture[str]

RUN = """
import json, sys
from PIL import Image
from lookm_cpp import Llava
a = json.loads(sys.argv[1])
image = Image.new("RGB", tuple(a["image_size"]), "red")
with Llava(a["model"], mmproj=a["mmproj"], verbose=True, n_threads=1, **a["options"]) as llm:
    llm.ask(a["question"], [image] * a["images"], max_tokens=a["max_tokens"])
    s = llm.stats
allocated = [s.kv_bytes_allocated_before, s.kv_bytes_allocated_after, s.compress_bytes_peak]
print(json.dumps([s.text_cells, s.image_cells, s.kept_cells, *allocated]))
"""
MIB = 1 << 20
LOG_STEP = 0.005 * MIB
"""What llama.cpp's log rounds to."""


class Case(NamedTuple):
    """What is asked, of whom."""

    files: Files
    images: int
    image_size: tuple[int, int]
    options: dict[str, Any]
    question: str = "Which of these is the largest?"
    max_tokens: int = 40

    def plan(self, **more: Any) -> Any:
        return lookm_cpp.plan(
            self.files.model,
            mmproj=self.files.mmproj,
            images=self.images,
            image_size=self.image_size,
            question=self.question,
            max_tokens=self.max_tokens,
            **{**self.options, **more},
        )


class Real(NamedTuple):
    """A run of a case in a process of its own: what it says, and what llama.cpp logged."""

    text_cells: int
    image_cells: int
    kept_cells: int
    kv_reading: int
    kv_answering: int
    compress_peak: int
    compute: list[float]
    """Of each context, in the order in which they were made."""
    encoder_compute: float
    repacked: float
    """Weights in buffers of their own; the rest is used as it lies in the file."""


def _sizes(log: str, what: str) -> float:
    return (
        sum(float(size) for size in re.findall(rf"{what} buffer size = +([\d.]+) MiB", log)) * MIB
    )


def real_run(case: Case) -> Real:
    asked = {
        "model": str(case.files.model),
        "mmproj": str(case.files.mmproj),
        "images": case.images,
        "image_size": case.image_size,
        "question": case.question,
        "max_tokens": case.max_tokens,
        "options": case.options,
    }
    child = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(asked)],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    encoder = [
        line for line in child.stderr.splitlines() if line.startswith("reserve_compute_meta")
    ]
    others = "\n".join(
        line for line in child.stderr.splitlines() if not line.startswith("reserve_compute_meta")
    )
    contexts = others.split("llama_context: constructing llama_context")[1:]
    counts: list[Any] = json.loads(child.stdout.splitlines()[-1])
    counts += [[_sizes(log, "compute") for log in contexts], _sizes("\n".join(encoder), "compute")]
    counts.append(_sizes(others.replace("CPU_Mapped model", ""), "model"))
    return Real(*counts)


def tensor_bytes(path: Path, *, repacked: bool = False) -> int:
    """Of all tensors, or of those that are never repacked: norms, and embeddings that are looked
    up.
    """
    return sum(
        int(tensor.n_bytes)
        for tensor in gguf.GGUFReader(path).tensors
        if not repacked
        or tensor.tensor_type == gguf.GGMLQuantizationType.F32
        or tensor.name == "token_embd.weight"
    )


def embedded_case(**options: Any) -> Case:
    return Case(Files(MODEL, MMPROJ), 20, (96, 96), options)


ZOO: dict[str, dict[str, Any]] = {
    # a plain cache, each image in five tiles
    "llava-1.6": {"images": 9, "image_size": (96, 64)},
    # M-RoPE
    "qwen2-vl": {"images": 11, "image_size": (320, 224)},
    # sliding windows
    "gemma-3": {"images": 20, "image_size": (96, 64)},
    # a hybrid
    "lfm2-vl": {"images": 9, "image_size": (96, 64)},
}


@pytest.fixture(params=["embedded", "embedded-full", "embedded-fa", *ZOO])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    if request.param == "embedded":
        return embedded_case(kv_ratio=0.2)
    if request.param == "embedded-full":
        return embedded_case(kv_ratio=1.0, type_k="q8_0", n_ubatch=128)
    if request.param == "embedded-fa":
        return embedded_case(kv_ratio=0.5, flash_attn=True, type_v="q8_0", method="roco")
    return Case(
        write_pair(request.param, tmp_path),
        options={"kv_ratio": 0.25, "n_ctx": 4096},
        **ZOO[request.param],
    )


def test_a_real_run_allocates_what_was_planned(case: Case) -> None:
    found, real = case.plan(), real_run(case)
    assert found["prompt_cells"] == real.text_cells + real.image_cells
    assert found["text_cells"] == real.text_cells
    assert found["cells_per_image"] * case.images == real.image_cells
    assert found["kept_cells"] == real.kept_cells
    reading, answering = found["reading"], found["answering"]
    assert (reading["kv"], answering["kv"]) == (real.kv_reading, real.kv_answering)
    moved = real.kv_answering < real.kv_reading
    assert moved == (case.options["kv_ratio"] < 1.0)
    # the smallest contexts come first; then one for the prompt, and one for the answer if cells
    # moved
    planned = [reading["compute"], answering["compute"]][: 1 + moved]
    for ours, theirs in zip(planned, real.compute[-len(planned) :], strict=True):
        assert ours == pytest.approx(theirs, rel=0.03, abs=LOG_STEP)
    assert reading["encoder_compute"] == pytest.approx(real.encoder_compute, rel=0.03, abs=LOG_STEP)
    weights = real.repacked + tensor_bytes(case.files.model, repacked=real.repacked > 0)
    assert reading["weights"] == pytest.approx(weights, rel=0.03)
    assert reading["encoder_weights"] == pytest.approx(tensor_bytes(case.files.mmproj), rel=0.03)
    if moved:
        assert reading["scores"] <= real.compress_peak <= reading["scores"] + found["scratch_bytes"]
    encoder = tensor_bytes(case.files.mmproj) + real.encoder_compute
    total = weights + encoder + real.kv_reading + real.compute[-len(planned)]
    ours = sum(
        reading[part] for part in ("weights", "encoder_weights", "encoder_compute", "kv", "compute")
    )
    assert ours == pytest.approx(total, rel=0.03)


@pytest.mark.parametrize("name", PAIRS)
def test_images_are_cut_and_counted_as_they_are_in_a_run(name: str, tmp_path: Path) -> None:
    """By hand: the table of the zoo."""
    pair, files = PAIRS[name], write_pair(name, tmp_path)
    marks = 0
    for size, tiles in zip(pair.images, pair.tiles, strict=True):
        found = lookm_cpp.plan(
            files.model, mmproj=files.mmproj, images=3, image_size=size, question="?"
        )
        assert (found["tiles_per_image"], found["cells_per_image"]) == (len(tiles), sum(tiles))
        assert found["prompt_cells"] - found["text_cells"] == 3 * sum(tiles)
        marks += found["marks_per_image"]
        assert found["reading"]["encoder_compute"] > 0
        assert found["reading"]["pictures"] >= 3 * (3 * size[0] * size[1])
    assert marks == pair.n_marks


def test_no_weights_are_read(tmp_path: Path) -> None:
    """Files that end where their weights should begin would do."""
    cut: list[Path] = []
    for source in (MODEL, MMPROJ):
        reader = gguf.GGUFReader(source)
        file = tmp_path / source.name
        file.write_bytes(source.read_bytes()[: reader.data_offset])
        with file.open("r+b") as sparse:
            sparse.truncate(source.stat().st_size)
        cut.append(file)
    options: Any = {"images": 5, "memory": "1GiB"}
    assert lookm_cpp.plan(cut[0], mmproj=cut[1], **options) == lookm_cpp.plan(
        MODEL, mmproj=MMPROJ, **options
    )


def test_the_largest_number_of_images_fits_and_one_more_does_not() -> None:
    case = embedded_case(kv_ratio=0.2)
    peak = case.plan()["peak_bytes"]
    found = case.plan(memory=peak + 64 * MIB + 3 * MIB)
    most = found["most_images"]
    assert found["fits"]
    assert 20 <= most < found["most_images_in_n_ctx"]
    memory = found["memory_bytes"]
    assert case._replace(images=most).plan(memory=memory)["fits"]
    assert not case._replace(images=most + 1).plan(memory=memory)["fits"]
    assert not case.plan(memory=MIB)["fits"]
    assert case.plan(memory=MIB)["most_images"] == 0


def test_n_ctx_bounds_the_images_too() -> None:
    case = embedded_case(n_ctx=1024)
    found = case.plan(memory="1TiB")
    most = found["most_images"]
    assert most == found["most_images_in_n_ctx"]
    assert (
        case._replace(images=most).plan()["prompt_cells"]
        <= 1024
        < case._replace(images=most + 1).plan()["prompt_cells"]
    )
    assert not found["fits"], "20 images are more"


def test_a_cap_is_a_cap() -> None:
    case = embedded_case(kv_ratio=0.5)
    full = case.plan()
    assert full["kv_bytes_capped"] is None
    capped = case.plan(kv_cells=512)
    assert capped["kv_bytes_full"] == full["kv_bytes_full"]
    assert (
        capped["kv_bytes_capped"]
        == capped["reading"]["kv"]
        == case.plan(kv_cells=400)["reading"]["kv"]
    )
    assert capped["kept_cells"] <= 512
    by_bytes = case.plan(kv_memory=capped["kv_bytes_capped"] + 100)
    assert by_bytes["reading"] == capped["reading"]
    assert case.plan(kv_cells=1 << 20)["reading"] == full["reading"]


def test_the_command(capfd: Capture) -> None:
    command = ["plan", "-m", "embedded", "--images", "20", "--memory", "1GiB", "--kv-ratio", "0.2"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    expected = lookm_cpp.plan(MODEL, mmproj=MMPROJ, images=20, memory=1 << 30, kv_ratio=0.2)
    assert found == {"model": "embedded", "image_size": [1024, 768], **expected}
    assert main(command) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "20 of 1024 x 768 pixels, 64 cells each" in out
    assert "Fits into 1.0 GiB." in out
    assert f"Most images of this size: {found['most_images']} " in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "nowhere.gguf", "--images", "2"], "model_path 'nowhere.gguf' does not exist"),
        (
            ["-m", str(MODEL), "--mmproj", "nowhere.gguf", "--images", "2"],
            "mmproj 'nowhere.gguf' does not exist",
        ),
        (["-m", __file__, "--mmproj", str(MMPROJ), "--images", "2"], "is not a GGUF file"),
        (["-m", str(MODEL), "--mmproj", __file__, "--images", "2"], "is not a GGUF file"),
        (["-m", str(MMPROJ), "--mmproj", str(MMPROJ), "--images", "2"], "model_path: cannot load"),
        (["-m", str(MODEL), "--mmproj", str(MODEL), "--images", "2"], "mmproj: cannot use"),
        (["-m", "embedded", "--images", "0"], "images: 0, expected 1 or more"),
        (["-m", "embedded", "--images", "-3"], "images: -3, expected 1 or more"),
        (["-m", "embedded", "--images", "99999999"], "images: 99999999 with their prompt"),
        (
            ["-m", "embedded", "--images", "1", "--image-size", "0x0"],
            "image_size is 0x0, expected WxH",
        ),
        (
            ["-m", "embedded", "--images", "1", "--image-size", "99999x99999"],
            "image_size is 99999x99999",
        ),
        (
            ["-m", "embedded", "--images", "1", "--image-size", "big"],
            "--image-size is 'big', expected WxH",
        ),
        (
            ["-m", "embedded", "--images", "1", "--memory", "8 parsecs"],
            "memory is '8 parsecs', expected bytes",
        ),
        (["-m", "embedded", "--images", "1", "--memory", "0"], "memory is '0', expected bytes"),
        (["-m", "embedded", "--images", "1", "--kv-cells", "0"], "kv_cells is 0, expected 1 to"),
        (
            ["-m", "embedded", "--images", "1", "--kv-memory", "10B"],
            "kv_memory: 10 bytes, expected ",
        ),
        (["-m", "embedded", "--images", "1", "--kv-ratio", "0"], "kv_ratio: 0 is outside (0, 1]"),
        (["-m", "embedded", "--images", "1", "--type-k", "q9"], 'type_k: "q9" is unknown'),
        (
            ["-m", "embedded", "--images", "1", "--max-tokens", "-1"],
            "max_tokens: -1, expected 0 or more",
        ),
        (["-m", "embedded", "--images", "1", "--n-ubatch", "0"], "n_ubatch: 0 is outside"),
        (
            ["-m", "embedded", "--images", "1", "--question", "a <image>"],
            "expected text without <image>",
        ),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, capfd: Capture) -> None:
    assert main(["plan", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("lookm: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_model_that_cannot_be_compressed(tmp_path: Path) -> None:
    files = write_pair("kimi-vl", tmp_path)
    with pytest.raises(ValueError, match="asks for compression, but multi-head latent attention"):
        lookm_cpp.plan(files.model, mmproj=files.mmproj, images=2, kv_ratio=0.5)
    assert lookm_cpp.plan(files.model, mmproj=files.mmproj, images=2)["reading"]["kv"] > 0


def test_an_image_that_must_be_read_at_once(tmp_path: Path) -> None:
    """The run would refuse it; so does the plan."""
    files = write_pair("gemma-3", tmp_path)
    with pytest.raises(
        ValueError, match="n_ubatch: 32 is too small; this model needs at least the 64 cells"
    ):
        lookm_cpp.plan(files.model, mmproj=files.mmproj, images=2, n_ubatch=32)
