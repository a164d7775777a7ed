"""Flags, their environment, and starts that are refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from lookm_cpp import embedded
from lookm_cpp.serve import check_files, server_arguments, server_path
from session.tiny_models import write_llama, write_mamba, write_mpt

from server import servers
from server.servers import Server, data_uri, free_port, launch, refused, running

FLAGS = {
    "--kv-ratio": "LLAMA_ARG_KV_RATIO",
    "--kv-ratio-max": "LLAMA_ARG_KV_RATIO_MAX",
    "--kv-method": "LLAMA_ARG_KV_METHOD",
    "--kv-important-ratio": "LLAMA_ARG_KV_IMPORTANT_RATIO",
    "--kv-recent-ratio": "LLAMA_ARG_KV_RECENT_RATIO",
    "--kv-ratio-floor": "LLAMA_ARG_KV_RATIO_FLOOR",
    "--kv-ratio-ceiling": "LLAMA_ARG_KV_RATIO_CEILING",
    "--kv-quality": "LLAMA_ARG_KV_QUALITY",
    "--kv-text-overflow": "LLAMA_ARG_KV_TEXT_OVERFLOW",
    "--kv-fidelity": "LLAMA_ARG_KV_FIDELITY",
    "--kv-scorer": "LLAMA_ARG_KV_SCORER",
    "--kv-window": "LLAMA_ARG_KV_WINDOW",
    "--kv-merge": "LLAMA_ARG_KV_MERGE",
    "--kv-merge-keys": "LLAMA_ARG_KV_MERGE_KEYS",
    "--kv-merge-within-modality": "LLAMA_ARG_KV_MERGE_WITHIN_MODALITY",
    "--kv-visual-quota": "LLAMA_ARG_KV_VISUAL_QUOTA",
    "--kv-seed": "LLAMA_ARG_KV_SEED",
    "--kv-min-cells": "LLAMA_ARG_KV_MIN_CELLS",
    "--kv-on-request": "LLAMA_ARG_KV_ON_REQUEST",
    "--kv-strict-reuse": "LLAMA_ARG_KV_STRICT_REUSE",
    "--kv-cells": "LLAMA_ARG_KV_CELLS",
    "--kv-prefix-type": "LLAMA_ARG_KV_PREFIX_TYPE",
    "--image-cache": "LLAMA_ARG_IMAGE_CACHE",
    "--image-max-pixels": "LLAMA_ARG_IMAGE_MAX_PIXELS",
    "--kv-memory": "LLAMA_ARG_KV_MEMORY",
    "--allow-origin": "LLAMA_ARG_ALLOW_ORIGIN",
    "--no-request-grammar": "LLAMA_ARG_NO_REQUEST_GRAMMAR",
    "--no-check-files": "LLAMA_ARG_NO_CHECK_FILES",
    "--no-check-memory": "LLAMA_ARG_NO_CHECK_MEMORY",
}


def test_help_lists_each_flag_once() -> None:
    help_text = subprocess.run(
        [server_path(), "--help"], capture_output=True, text=True, check=True
    ).stdout
    ours = help_text.partition("----- KV compression params (lookm) -----")[2]
    for flag, variable in FLAGS.items():
        assert ours.count(f"\n{flag} ") == help_text.count(f"\n{flag} ") == 1
        assert help_text.count(f"(env: {variable})\n") == 1
    assert max(map(len, ours.splitlines())) <= 110  # as llama.cpp breaks its lines


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--kv-ratio", "0"), "--kv-ratio: 0 is outside (0, 1]"),
        (("--kv-ratio", "1.5"), "--kv-ratio: 1.5 is outside (0, 1]"),
        (("--kv-ratio", "nan"), "--kv-ratio: nan is outside (0, 1]"),
        (("--kv-ratio", "half"), '--kv-ratio: "half" is neither a number nor auto'),
        (("--kv_ratio", "0.2x"), '--kv-ratio: "0.2x" is neither a number nor auto'),
        (("--kv-ratio-max", "0.2x"), '--kv-ratio-max: "0.2x" is not a number'),
        (("--kv-ratio",), "--kv-ratio: expected a value"),
        (
            ("--kv-ratio", "0.5", "--kv-ratio-max", "0.2"),
            "--kv-ratio-max: 0.2 is out of range; expected 0.5",
        ),
        (
            ("--kv-on-request", "--kv-ratio", "0.5"),
            "--kv-on-request: it is given together with a ratio below 1 or a cap",
        ),
        (("--kv-method", "best"), '--kv-method: "best" is unknown; expected one of origin, '),
        (("--kv-important-ratio", "-0.1"), "--kv-important-ratio: -0.1 is outside [0, 1]"),
        (("--kv-important-ratio", "0.7", "--kv-recent-ratio", "0.7"), "0.7 + 0.7 exceeds 1"),
        (
            ("--kv-text-overflow", "drop"),
            '--kv-text-overflow: "drop" is unknown; expected keep or evict',
        ),
        (
            ("--kv-scorer", "best"),
            '--kv-scorer: "best" is unknown; expected cumulative, window or none',
        ),
        (("--kv-window", "0"), "--kv-window: 0 is too small; expected 1 query or more"),
        (("--kv-visual-quota", "2"), "--kv-visual-quota: 2 is outside [0, 1]"),
        (("--kv-merge-keys", "maybe"), '--kv-merge-keys: "maybe" is neither true nor false'),
        (("--kv-seed", "-1"), '--kv-seed: "-1", expected 0 or more'),
        (
            ("--kv-fidelity", "upstream", "--kv-text-overflow", "evict"),
            '--kv-text-overflow: "evict" does not go with',
        ),
        (("--kv-min-cells", "-1"), "--kv-min-cells: -1 is out of range; expected 0 or more"),
        (("--kv-min-cells", "1e99"), '--kv-min-cells: "1e99" is not a whole number'),
        (
            ("--allow-origin", ""),
            "--allow-origin: it is empty; expected self, or origins such as https://",
        ),
        (
            ("--allow-origin", "self,example.org"),
            '--allow-origin: "example.org" is not an origin; expected self',
        ),
        (("--allow-origin", "https://example.org/"), '"https://example.org/" is not an origin'),
        (("--allow-origin", "*"), '--allow-origin: "*" is not an origin'),
    ],
)
def test_a_bad_value_is_one_line(flags: tuple[str, ...], why: str) -> None:
    status, said = refused(*flags)
    assert status == 2
    assert said.count("\n") == 1
    assert said.startswith("lookm-server: --")
    assert why in said


def test_files_are_called_by_their_names(tmp_path: Path) -> None:
    """Names of options in a path are no options."""
    file = tmp_path / "kv_ratio_test" / "method_type_k.gguf"
    file.parent.mkdir()
    file.write_bytes(b"GGUFxxxx")
    status, said = refused("-m", str(file), "--kv-cells", "512")
    assert status == 2
    assert f'"{file}" is damaged' in said


def test_a_bad_value_in_the_environment() -> None:
    status, said = refused(environment={"LLAMA_ARG_KV_STRICT_REUSE": "maybe"})
    assert (status, said) == (
        2,
        'lookm-server: LLAMA_ARG_KV_STRICT_REUSE: "maybe" is neither true nor false\n',
    )


def test_environment_and_flags(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = (
        "0.5",
        "0.75",
        "h2o",
        "0.125",
        "0.25",
        "0.1",
        "0.4",
        "0.9",
        "evict",
        "paper",
        "window",
        "24",
        "weighted",
        "false",
        "true",
        "0.75",
        "11",
        "7",
        "0",
        "1",
        "2048",
        "q8_0",
        "1MiB",
        "1000000",
    )  # --kv-memory does not go with --kv-cells
    ours = [
        flag for flag in FLAGS if flag.startswith(("--kv-", "--image-")) and flag != "--kv-memory"
    ]
    for variable, value in zip(map(FLAGS.__getitem__, ours), values, strict=True):
        monkeypatch.setitem(servers.QUIET_ENVIRONMENT, variable, value)
    with running(folder, "--kv-min-cells", "9", "-c", "512") as server:
        assert server.http.get("/props").json()["lookm"] == {
            "kv_ratio": 0.375,
            "kv_ratio_max": 0.75,
            "kv_method": "h2o",
            "kv_important_ratio": 0.125,
            "kv_recent_ratio": 0.25,
            "kv_ratio_floor": 0.1,
            "kv_ratio_ceiling": 0.4,
            "kv_quality": 0.9,
            "kv_text_overflow": "evict",
            "kv_fidelity": "paper",
            "kv_scorer": "window",
            "kv_window": 24,
            "kv_merge": "weighted",
            "kv_merge_keys": False,
            "kv_merge_within_modality": True,
            "kv_visual_quota": 0.75,
            "kv_seed": 11,
            "kv_on_request": False,
            "kv_min_cells": 9,
            "kv_strict_reuse": True,
            "kv_cells": 512,  # of each of four slots
            "kv_prefix_type": "q8_0",
            "image_cache": 1 << 20,
            "image_max_pixels": 1_000_000,
            "image_ratio": 1.0,
            "image_ratio_max": 1.0,
            "image_cells": None,
            "pruner": "divprune",
        }


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (write_mamba, "memory type memory_recurrent cannot be compressed"),
        (write_mpt, "ALiBi biases"),
    ],
)
def test_a_memory_that_cannot_be_compressed(tmp_path: Path, write: object, why: str) -> None:
    assert callable(write)
    model = str(write(tmp_path / "model.gguf"))
    status, said = refused("-m", model, "--kv-ratio", "0.2", "-c", "256")
    assert status == 2
    last = said.splitlines()[-1]
    assert last.startswith("lookm-server: --kv-ratio: ")
    assert why in last
    assert last.endswith("; without this flag the model runs uncompressed")
    server = launch(tmp_path / "log", "-m", model, "--kv-ratio", "1", "-c", "256")
    assert server.http.get("/health").json() == {"status": "ok"}
    assert server.stop() == 0


def test_drafts_that_share_memory(tmp_path: Path) -> None:
    model = str(write_llama(tmp_path / "model.gguf"))
    status, said = refused(
        "-m", model, "--kv-ratio", "0.2", "-c", "256", "--spec-type", "draft-mtp"
    )
    assert status == 2
    assert "--kv-ratio" in said.splitlines()[-1]


def test_ratio_one_is_llama_server(folder: Path) -> None:
    with running(folder, "--kv-ratio", "1", "-c", "512", "--metrics") as server:
        assert "lookm" not in server.http.get("/props").json()
        assert "lookm" not in server.http.get("/metrics").text
        answer = server.complete(list(range(40, 90)), kv_ratio=0.2, n_discard=3)
        assert "kept_cells" not in answer["timings"]
        assert answer["generation_settings"]["n_discard"] == 3
        assert "kv_ratio" not in answer["generation_settings"]
        assert not server.lines(" lookm: ")


def test_shift_and_chunk_reuse_are_off(tmp_path: Path) -> None:
    model = str(write_llama(tmp_path / "model.gguf"))
    server = launch(
        tmp_path / "log",
        "-m",
        model,
        "--kv-ratio",
        "0.5",
        "-c",
        "256",
        "--context-shift",
        "--cache-reuse",
        "16",
    )
    assert server.stop() == 0
    assert len(server.lines("--context-shift is off: ")) == 1
    assert len(server.lines("--cache-reuse is off: ")) == 1


def test_models_of_a_router_compress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama-server without a model starts servers of its own; what our flags said reaches them by
    the environment.
    """
    write_llama(tmp_path / "tiny.gguf")
    monkeypatch.setattr(
        servers,
        "command",
        lambda *flags: [str(server_path()), "--models-dir", str(tmp_path), *flags],
    )
    flags = (
        "--kv-ratio",
        "0.3",
        "--kv-method",
        "h2o",
        "-c",
        "512",
        "-t",
        "1",
        "--allow-origin",
        "self",
    )
    server = launch(tmp_path / "log", *flags)
    server.http.headers["Origin"] = (
        server.url
    )  # as the router's own page sends it, which knows no other server
    try:
        answer = server.complete(list(range(40, 240)), model="tiny")
        assert (answer["timings"]["prompt_cells"], answer["timings"]["kept_cells"]) == (200, 60)
        assert server.http.post("/completion", content=b"{").status_code == 400
    finally:
        assert server.stop() == 0


IMAGES = [{"type": "image_url", "image_url": {"url": data_uri(embedded.DEMO / "pic03.png")}}] * 2
WHAT = [{"type": "text", "text": "What?"}]
LABEL = [{"type": "text", "text": "Image 1:"}]


@pytest.mark.parametrize(
    ("content", "prompt"),
    [
        ([*WHAT, *IMAGES], "Image 1:* Image 2:* What?"),
        ([*IMAGES, *WHAT], "Image 1:* Image 2:* What?"),
        ([*LABEL, IMAGES[0], *WHAT], "Image 1:*What?"),
        ([*LABEL, IMAGES[0], *LABEL, IMAGES[1], *WHAT], "Image 1:*Image 1:*What?"),
        ("What?", "What?"),
    ],
)
def test_the_shipped_model_gets_labelled_pictures(
    server: Server, content: object, prompt: str
) -> None:
    said = [{"role": "system", "content": "S "}, {"role": "user", "content": content}]
    text = server.post("/apply-template", messages=said)["prompt"]
    marker = server.http.get("/props").json()["media_marker"]
    assert text.replace(marker, "*") == f"S USER: {prompt} ASSISTANT:"
    turns = [*said, {"role": "assistant", "content": "A."}, {"role": "user", "content": IMAGES}]
    text = server.post("/apply-template", messages=turns)["prompt"].replace(marker, "*")
    n = prompt.count("*")
    assert (
        text
        == f"S USER: {prompt} ASSISTANT: A.</s>USER: Image {n + 1}:* Image {n + 2}:*  ASSISTANT:"
    )


def test_lookm_serve_passes_everything_on() -> None:
    lookm = server_path().with_name("lookm")
    shown = subprocess.run(
        [lookm, "serve", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "--kv-ratio {R,auto}" in shown
    assert "--ctx-size N" in shown
    done = subprocess.run(
        [lookm, "serve", "--embedded", "--port", str(free_port()), "--kv-ratio", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "lookm-server: --kv-ratio: 2 is outside (0, 1]\n")
    both = subprocess.run(
        [lookm, "serve", "--embedded", "-m", "x"], capture_output=True, text=True, check=False
    )
    assert (both.returncode, both.stderr) == (
        2,
        "lookm: --embedded is given with -m, expected one model\n",
    )
    for flag in ("-m", "--mmproj"):
        none = subprocess.run(
            [lookm, "serve", flag, "no.gguf"], capture_output=True, text=True, check=False
        )
        assert (none.returncode, none.stdout) == (2, "")
        assert none.stderr == f"lookm: {flag} 'no.gguf' does not exist, expected a GGUF file\n"
    check_files(["-m", "to-come.gguf", "-mu", "https://example.org/to-come.gguf"])


@pytest.mark.parametrize(
    "flag", ["-mu", "--mmproj-url", "--model_url", "-dr", "--hf-repo", "--fim-qwen-3b-default"]
)
def test_nothing_is_downloaded_over_the_shipped_model(
    flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama-server would put it where ``-m`` points."""
    with pytest.raises(ValueError, match=r"--embedded is given with -.*, expected one model"):
        server_arguments(["--embedded", flag, "https://example.org/model.gguf"])
    monkeypatch.setenv("LLAMA_ARG_MODEL_URL", "https://example.org/model.gguf")
    with pytest.raises(ValueError, match="--embedded is given with LLAMA_ARG_MODEL_URL"):
        server_arguments(["--embedded"])
    check_files(["-m", "to-come.gguf"])
    monkeypatch.delenv("LLAMA_ARG_MODEL_URL")
    for words in (["--spec-default"], ["--alias", "lookm-default"]):
        assert server_arguments(["--embedded", *words])[-1] == words[-1]


@pytest.mark.parametrize("flag", ["-m", "--model"])
def test_the_shipped_model_has_its_name_here_too(flag: str) -> None:
    named = server_arguments(["--port", "1", flag, "embedded", "-np", "2"])
    assert named == server_arguments(["--port", "1", "--embedded", "-np", "2"])
    with pytest.raises(ValueError, match="--embedded is given with -m, expected one model"):
        server_arguments([flag, "embedded", "-m", "other.gguf"])


def test_a_template_of_ones_own() -> None:
    assert "--chat-template-file" in server_arguments(["--embedded"])
    assert server_arguments(["--embedded", "--chat-template", "chatml"])[-2:] == [
        "--chat-template",
        "chatml",
    ]
    assert "--chat-template-file" not in server_arguments(
        ["--embedded", "--chat-template", "chatml"]
    )
