"""What does not fit into memory is refused in one line with its size; no signal ends a process."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp.embedded import DEMO, MMPROJ, MODEL

_oracle: Any = import_module("lookm_cpp._oracle")

LOOKM = str(Path(sys.executable).with_name("lookm"))
PICTURES = [word for i in range(1, 9) for word in ("-i", str(DEMO / f"pic{i:02}.png"))]
ASK = [
    LOOKM,
    "ask",
    "-m",
    "embedded",
    *PICTURES,
    "<image>" * 8 + "What?",
    "--kv-ratio",
    "0.3",
    "--threads",
    "2",
]
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")


def _limited(
    limit: int, command: list[str], kind: int = resource.RLIMIT_AS
) -> subprocess.CompletedProcess[str]:
    def lower() -> None:
        resource.setrlimit(kind, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return subprocess.run(
        command, capture_output=True, text=True, preexec_fn=lower, timeout=120, check=False
    )


@pytest.mark.parametrize("limit", [220_000, 350_000, 450_000, 520_000, 560_000, 2_600_000])
def test_the_command_line_under_a_limit(limit: int) -> None:
    done = _limited(limit * KIB, ASK)
    assert done.returncode in (0, 2)
    assert done.stderr.count("\n") == 1
    if done.returncode == 2:
        assert " are left of ulimit -v, " in done.stderr
        assert limit < 1_500_000
    else:
        assert limit > 400_000


@pytest.mark.parametrize("limit", [150_000, 270_000, 330_000])
def test_data_under_a_limit(limit: int) -> None:
    done = _limited(limit * KIB, ASK, resource.RLIMIT_DATA)
    assert done.returncode in (0, 2)
    assert done.returncode == 0 or " are left of ulimit -d, " in done.stderr


def test_a_file_that_was_not_seen_before(tmp_path: Path) -> None:
    """The child process has the limit, too, and what it says is about memory."""
    model = shutil.copy(MODEL, tmp_path / "model.gguf")
    code = (
        "import sys, resource; from lookm_cpp import Llava\n"
        "resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)\n"
        f"try: Llava({str(model)!r}, mmproj={str(MMPROJ)!r})\n"
        "except MemoryError as error: print(error)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(300 * MIB)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert done.stdout.startswith(f'model_path: "{model}" ')
    assert " are left of ulimit -v, 300 MiB" in done.stdout


LOWERED = """
import json, resource, sys
from lookm_cpp import Llava
from lookm_cpp.embedded import DEMO
pictures = [DEMO / "pic03.png", DEMO / "pic08.png"] * 4
llm = Llava.embedded(kv_ratio=0.3, n_threads=2)
before = llm.ask("<image>" * 8 + "What?", pictures) if int(sys.argv[2]) else None
in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
_, most = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (in_use + int(sys.argv[1]), most))
said = []
for work in (
    lambda: llm.ask("<image>" * 8 + "What?", pictures),
    lambda: llm.chat().ask("<image>What?", pictures[:1]),
    lambda: Llava.embedded(n_ctx=1024).ask("<image>What?", pictures[:1]),
):
    try:
        work()
    except MemoryError as error:
        said.append(str(error))
resource.setrlimit(resource.RLIMIT_AS, (most, most))
after = llm.ask("<image>" * 8 + "What?", pictures)
print(json.dumps([said, before is None or before == after]))
"""


@pytest.mark.parametrize(("more", "asked"), [(16, 0), (80, 1), (176, 0), (240, 1), (2000, 0)])
def test_a_limit_that_comes_later(more: int, asked: int) -> None:
    command = [sys.executable, "-c", LOWERED, str(more * MIB), str(asked)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said, usable = json.loads(done.stdout)
    assert usable
    assert all(" are left of ulimit -v" in line for line in said)
    assert len(said) == (3 if more == 16 else 0 if more == 2000 else len(said))


PLANNED = """
import resource, sys
from lookm_cpp import Llava
in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + (400 << 20),) * 2)
try: Llava.embedded(n_ctx=int(sys.argv[1]), shrink=False)
except MemoryError as error: print(error)
"""


def test_it_is_the_plan_that_is_refused() -> None:
    """A cache of 400,000 cells, never allocated: 3 KiB for each cell, and the graph's buffers."""
    done = subprocess.run(
        [sys.executable, "-c", PLANNED, "400000"], capture_output=True, text=True, check=True
    )
    assert "with its projector takes " in done.stdout
    wanted = int(done.stdout.partition(" takes ")[2].split()[0])
    assert 400_000 * 3 * KIB / MIB < wanted < 400_000 * 6 * KIB / MIB
    small = subprocess.run(
        [sys.executable, "-c", PLANNED, "4096"], capture_output=True, text=True, check=True
    )
    assert small.stdout == ""


def _file(root: Path, name: str, text: str | int) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def _machine(root: Path, available: int) -> None:
    _file(
        root,
        "proc/meminfo",
        f"MemTotal: 99999999 kB\nMemAvailable: {available >> 10} kB\nSwapFree: 1024 kB",
    )


def test_memory_of_the_machine(tmp_path: Path) -> None:
    _machine(tmp_path, 3 * GIB)
    assert _oracle.unused_memory(str(tmp_path)) == (3 * GIB + MIB, "this machine's memory")


def test_limits_of_cgroups_of_version_2(tmp_path: Path) -> None:
    _machine(tmp_path, 9 * GIB)
    _file(tmp_path, "proc/self/cgroup", "0::/a/b")
    top = tmp_path / "sys/fs/cgroup"
    for group, limit, used, cached in (("a", 4 * GIB, 3 * GIB, 2 * GIB), ("a/b", "max", GIB, 0)):
        _file(top, f"{group}/memory.max", limit)
        _file(top, f"{group}/memory.current", used)
        _file(top, f"{group}/memory.stat", f"anon 5\nfile {cached}\nfile_mapped 7")
    assert _oracle.unused_memory(str(tmp_path)) == (3 * GIB, "this cgroup's limit, 4096 MiB")
    _file(top, "a/b/memory.max", 2 * GIB)  # the group's own is tighter
    assert _oracle.unused_memory(str(tmp_path)) == (GIB, "this cgroup's limit, 2048 MiB")


def test_the_limit_of_a_container(tmp_path: Path) -> None:
    """It is its own root, whatever its path outside is."""
    _machine(tmp_path, 9 * GIB)
    _file(tmp_path, "proc/self/cgroup", "0::/../outside/id")
    _file(tmp_path, "sys/fs/cgroup/memory.max", GIB)
    _file(tmp_path, "sys/fs/cgroup/memory.current", 3 * GIB // 4)
    _file(tmp_path, "sys/fs/cgroup/memory.stat", f"file {GIB // 4}")
    assert _oracle.unused_memory(str(tmp_path))[0] == GIB // 2


def test_limits_of_cgroups_of_version_1(tmp_path: Path) -> None:
    _machine(tmp_path, 9 * GIB)
    _file(tmp_path, "proc/self/cgroup", "8:pids:/\n4:memory,x:/job\n0::/")
    top = tmp_path / "sys/fs/cgroup/memory"
    for group, limit in ((".", 0x7FFFFFFFFFFFF000), ("job", 2 * GIB)):
        _file(top, f"{group}/memory.limit_in_bytes", limit)
        _file(top, f"{group}/memory.usage_in_bytes", GIB)
        _file(top, f"{group}/memory.stat", f"cache 1\ntotal_cache {GIB // 2}")
    assert _oracle.unused_memory(str(tmp_path)) == (3 * GIB // 2, "this cgroup's limit, 2048 MiB")


def test_memory_without_a_limit_is_unbounded(tmp_path: Path) -> None:
    assert _oracle.unused_memory(str(tmp_path)) == (2**64 - 1, "")
