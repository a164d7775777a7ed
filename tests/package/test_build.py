"""The build: verified sources, one file compiled with care, a module that exports nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from lookm_cpp import _core

ROOT = Path(__file__).parents[2]
THIRD_PARTY = ROOT / "third_party"
THREADS = ROOT / "cpp" / "lookm" / "threads"
TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
BUILD = next(
    iter([*ROOT.glob("build/dev"), *sorted(ROOT.glob(f"build/{TAG}-{TAG}-*"))]), ROOT / "build"
)
"""Where ``make setup`` configured; else where a plain ``pip install`` did."""
CURE = {"-fno-tree-dse", "-fno-dse"}

BACKEND = """
from pathlib import Path
def prepare_metadata_for_build_wheel(folder, settings=None):
    info = Path(folder, "tiny-1.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n")
    return info.name
"""
SDIST = {
    "pyproject.toml": "[build-system]\nrequires = []\n"
    'build-backend = "backend"\nbackend-path = ["."]\n',
    "backend.py": BACKEND,
    "PKG-INFO": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
    "vendor/engine/CMakeLists.txt": "project(engine)\n",
    "vendor/engine/src/engine.c": "int engine;\n",
    "vendor/engine/.git": "gitdir: ../../.git/modules/engine\n",
    "vendor/engine2/other.c": "int other;\n",
}
"""A source distribution whose ``vendor/engine`` is wanted."""
WANTED = {"CMakeLists.txt": "project(engine)\n", "src/engine.c": "int engine;\n"}


def _cmake() -> str:
    """The one in the environment first: it need not be on the path."""
    found = shutil.which(
        "cmake", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    )
    assert found is not None
    return found


def _run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """With none of the user's own pip settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env = {**clean, "PIP_CONFIG_FILE": os.devnull, **environment}
    return subprocess.run(
        [str(word) for word in command], env=env, capture_output=True, text=True, check=False
    )


def _cached(name: str) -> str:
    """A variable of the configured build, "" where it has none."""
    found = re.search(
        rf"^{name}:\w+=(.*)$", (BUILD / "CMakeCache.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    return found[1] if found else ""


def _commands() -> dict[Path, list[str]]:
    """Source file -> the words of its compiler call."""
    entries = json.loads((BUILD / "compile_commands.json").read_text(encoding="utf-8"))
    return {
        source: entry["command"].split()
        for entry in entries
        for source in _sources(Path(entry["file"]))
    }


def _sources(file: Path) -> list[Path]:
    """The files that are compiled with one call: those of a unity build, or just the one.

    A unity build names them relative to its own file or to the project.
    """
    if file.parent.name != "Unity":
        return [file]
    text = file.read_text(encoding="utf-8")
    names = re.findall(r'^#include "(.*)"$', text, re.MULTILINE)
    found = [(folder / name).resolve() for name in names for folder in (file.parent, ROOT)]
    return [source for source in found if source.exists()]


# The sdist


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder that pip finds ``tiny-1.0.tar.gz`` in."""
    folder = tmp_path / "index"
    folder.mkdir()
    with tarfile.open(folder / "tiny-1.0.tar.gz", "w:gz") as archive:
        for name, text in SDIST.items():
            member = tarfile.TarInfo(f"tiny-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return folder


def _sha256(index: Path) -> str:
    return hashlib.sha256((index / "tiny-1.0.tar.gz").read_bytes()).hexdigest()


def _fetch(
    index: Path, sha256: str, folder: str, dest: Path, version: str = "1.0"
) -> subprocess.CompletedProcess[str]:
    script = THIRD_PARTY / "fetch_sdist.py"
    options = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}
    return _run(sys.executable, script, "tiny", version, sha256, folder, dest, **options)


def _tree(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): file.read_text()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_a_good_sdist_unpacks_exactly_the_folder(index: Path, tmp_path: Path) -> None:
    dest = tmp_path / "deep" / "engine"
    first = _fetch(index, _sha256(index), "vendor/engine", dest)
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    assert _tree(dest) == WANTED
    assert list(dest.parent.iterdir()) == [dest]

    # No index, a wrong hash: a second call does not even look.
    (dest / "mine.txt").write_text("kept")
    second = _fetch(tmp_path / "nowhere", "0" * 64, "vendor/engine", dest)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert _tree(dest) == {**WANTED, "mine.txt": "kept"}


def test_the_newest_sdist_unpacks_too(index: Path, tmp_path: Path) -> None:
    dest = tmp_path / "engine"
    assert _fetch(index, "any", "vendor/engine", dest, "newest").returncode == 0
    assert _tree(dest) == WANTED


def test_a_wrong_hash_is_refused(index: Path, tmp_path: Path) -> None:
    dest = tmp_path / "there" / "engine"
    child = _fetch(index, "0" * 64, "vendor/engine", dest)
    assert child.returncode == 1
    expected = f"tiny-1.0.tar.gz has SHA-256 {_sha256(index)}, expected {'0' * 64}"
    assert child.stderr.startswith(expected)
    assert child.stderr.count("\n") == 1
    assert child.stdout == ""
    assert not list(dest.parent.iterdir())


def test_without_a_package_index_the_error_is_one_line(tmp_path: Path) -> None:
    dest = tmp_path / "there" / "engine"
    (tmp_path / "empty").mkdir()
    child = _fetch(tmp_path / "empty", "0" * 64, "vendor/engine", dest)
    assert child.returncode == 1
    assert child.stderr.startswith(
        "could not fetch tiny 1.0 with pip (is the package index reachable?): ERROR"
    )
    assert child.stderr.count("\n") == 1
    assert child.stdout == ""
    assert not list(dest.parent.iterdir())


def test_a_folder_that_the_sdist_lacks(index: Path, tmp_path: Path) -> None:
    dest = tmp_path / "there" / "engine"
    child = _fetch(index, _sha256(index), "vendor/motor", dest)
    assert (child.returncode, child.stderr) == (
        1,
        "tiny-1.0.tar.gz holds no tiny-1.0/vendor/motor/\n",
    )
    assert not dest.exists()


def test_what_an_interrupted_call_left_does_no_harm(index: Path, tmp_path: Path) -> None:
    dest = tmp_path / "there" / "engine"
    leftover = dest.with_name("engine.partial")
    leftover.mkdir(parents=True)
    (leftover / "half.c").write_text("int ha")
    assert _fetch(index, _sha256(index), "vendor/engine", dest).returncode == 0
    assert _tree(dest) == WANTED
    assert list(dest.parent.iterdir()) == [dest]


# llama.cpp's private headers


def _check_headers(folder: Path, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "check.cmake"
    script.write_text(
        f'include("{THIRD_PARTY}/llama_cpp.cmake")\nlookm_check_private_headers("{folder}")\n'
    )
    return _run(_cmake(), *options, "-P", script)


def _llama_cpp() -> Path:
    """The tree that this build was made of."""
    return next(file.parents[2] for file in _commands() if file.match("ggml/src/ggml.c"))


def _private_headers() -> list[str]:
    listed = re.search(
        r"set\(LOOKM_PRIVATE_HEADERS\s([^)]*)\)", (THIRD_PARTY / "llama_cpp.cmake").read_text()
    )
    assert listed is not None
    return listed[1].split()


def _words(text: str) -> str:
    """CMake breaks and indents its messages."""
    return " ".join(text.split())


def test_the_known_headers_pass(tmp_path: Path) -> None:
    accept = f"-DLOOKM_ACCEPT_HEADER_DRIFT={_cached('LOOKM_ACCEPT_HEADER_DRIFT')}"
    child = _check_headers(_llama_cpp(), tmp_path, accept)
    assert (child.returncode, child.stdout, child.stderr) == (0, "", "")


def test_drifted_headers_are_refused(tmp_path: Path) -> None:
    copy = tmp_path / "llama.cpp"
    for header in _private_headers():
        (copy / header).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_llama_cpp() / header, copy / header)
    changed = copy / "src/llama-kv-cells.h"
    changed.write_text(changed.read_text(encoding="utf-8") + "// one more line\n", encoding="utf-8")
    child = _check_headers(copy, tmp_path)
    said = _words(child.stderr)
    assert child.returncode == 1
    assert f"llama.cpp's private headers in {copy} have changed" in said
    assert "CONTRIBUTING.md and configure with -DLOOKM_ACCEPT_HEADER_DRIFT=ON" in said
    assert said.count("CMake Error") == 1
    assert _check_headers(copy, tmp_path, "-DLOOKM_ACCEPT_HEADER_DRIFT=ON").returncode == 0


def test_a_folder_that_is_no_llama_cpp(tmp_path: Path) -> None:
    child = _check_headers(tmp_path / "nowhere", tmp_path)
    said = _words(child.stderr)
    assert child.returncode == 1
    assert f"LOOKM_LLAMA_CPP_DIR: {tmp_path / 'nowhere'} has no src/llama-kv-cache.h" in said
    assert "expected a llama.cpp checkout of about the version in llama-cpp-python 0.3.36" in said
    assert said.count("CMake Error") == 1


# The compiler's options


def _old_gcc() -> bool:
    described = max(
        BUILD.glob("CMakeFiles/*/CMakeCXXCompiler.cmake"), key=lambda file: file.stat().st_mtime
    )
    found = dict(
        re.findall(
            r'^set\(CMAKE_CXX_COMPILER_(ID|VERSION) "(.*)"\)$', described.read_text(), re.MULTILINE
        )
    )
    return found["ID"] == "GNU" and int(found["VERSION"].split(".")[0]) < 13


def test_only_the_amx_kernels_are_compiled_without_dead_store_elimination() -> None:
    commands = _commands()
    amx = {file for file in commands if file.match("ggml-cpu/amx/mmq.cpp")}
    assert {file for file, words in commands.items() if set(words) >= CURE} == (
        amx if _old_gcc() else set()
    )
    assert {file for file, words in commands.items() if set(words) & CURE} <= amx


def test_the_variants_for_x86_are_ggmls() -> None:
    ours = (THIRD_PARTY / "cpu_variants.cmake").read_text(encoding="utf-8").replace("\n    ", " ")
    sets = dict(re.findall(r"^set\((\w+) ?([^)]*)\)", ours, re.MULTILINE))
    theirs = (_llama_cpp() / "ggml/src/CMakeLists.txt").read_text(encoding="utf-8")
    known = dict(re.findall(r"ggml_add_cpu_backend_variant\((\w+)\s*([^)]*)\)", theirs))

    def features(name: str) -> list[str]:
        words: str = sets[f"lookm_features_{name}"].replace('"', "")
        for _ in range(2):
            words = re.sub(r"\$\{(\w+)\}", lambda found: sets[found[1]], words)
        return words.split()

    names = sets["lookm_variants_x86"].split()
    assert names[0] == "x64"
    assert len(names) == 10
    own = {"sapphirerapids": ["AMX_BF16"]}  # of our attention
    for name in names:
        assert features(name) == known[name].split() + own.get(name, []), name


def test_our_files_hide_their_symbols() -> None:
    ours = {
        f: words
        for f, words in _commands().items()
        if ROOT / "cpp" in f.parents or ROOT / "tests" in f.parents
    }
    threads = set() if _own_threads() else set(THREADS.glob("*.cpp"))
    assert {file for file in ours if ROOT / "cpp" in file.parents} == set(
        (ROOT / "cpp").rglob("*.cpp")
    ) - threads
    for file, words in ours.items():
        assert "-fvisibility=hidden" in words, file
        assert "-fvisibility-inlines-hidden" in words, file


def test_the_module_exports_its_init_function_only() -> None:
    # Another package's llama.cpp may live in the same process, and unique symbols are shared even
    # between modules.
    options, underscore = (
        (["-gU"], "_") if sys.platform == "darwin" else (["-D", "--defined-only"], "")
    )
    listed = _run(_cached("CMAKE_NM") or "nm", *options, _core.__file__)
    assert listed.returncode == 0, listed.stderr
    exported = [line.split()[-1] for line in listed.stdout.splitlines()]
    assert exported == [f"{underscore}PyInit__core"]


# Threads


def _own_threads() -> bool:
    """Whether ggml's OpenMP code runs on ``cpp/lookm/threads``."""
    return any(THREADS in file.parents for file in _commands())


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="ELF files alone list what they need"
)
def test_nothing_of_ours_loads_libgomp() -> None:
    if not _own_threads():
        pytest.skip("this build has the compiler's own OpenMP")
    built = [
        *BUILD.glob("cpp/_core*.so"),
        *BUILD.glob("tests/cpp/_oracle*.so"),
        *BUILD.rglob("lookm-server"),
    ]
    assert len(built) >= 2
    for file in built:
        listed = _run(_cached("CMAKE_READELF") or "readelf", "--dynamic", file)
        assert "NEEDED" in listed.stdout
        assert "gomp" not in listed.stdout
        symbols = _run(_cached("CMAKE_NM") or "nm", "--dynamic", file)
        assert symbols.stdout
        assert not re.findall(r"\b(?:GOMP|omp)_\w+", symbols.stdout)


# The wheel


def test_the_module_is_all_that_cmake_installs(tmp_path: Path) -> None:
    listed = re.search(
        r'^install\.components = \["(\w+)"\]$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert listed is not None
    child = _run(_cmake(), "--install", BUILD, "--component", listed[1], "--prefix", tmp_path)
    assert child.returncode == 0, child.stderr
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    testing = {f"lookm_cpp/_oracle{suffix}"} if _cached("LOOKM_BUILD_TESTING") == "ON" else set()
    installed = {
        file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()
    }
    assert installed == {f"lookm_cpp/_core{suffix}"} | testing


def test_the_rest_of_the_wheel(tmp_path: Path) -> None:
    settings = {"wheel.cmake": "false", "build-dir": str(tmp_path / "build")}
    program = "from scikit_build_core.build import build_wheel\n"
    program += f"build_wheel({str(tmp_path)!r}, {settings!r})"
    child = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    names = zipfile.ZipFile(next(tmp_path.glob("lookm_cpp-*.whl"))).namelist()
    package = {name.removeprefix("lookm_cpp/") for name in names if name.startswith("lookm_cpp/")}
    assert {"py.typed", "_core.pyi", "models/README.md", "models/demo/demo.json"} <= package
    assert sum(Path(name).match("models/*.gguf") for name in package) == 2
    assert all(name.startswith("lookm_cpp-") for name in names if not name.startswith("lookm_cpp/"))
    assert not [
        name
        for name in package
        if Path(name).suffix in {".a", ".c", ".cmake", ".cpp", ".h", ".so", ".txt"}
    ]
