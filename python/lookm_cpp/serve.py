"""``lookm serve``: hands over to the server that was built with the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from itertools import pairwise
from pathlib import Path

from lookm_cpp import embedded
from lookm_cpp.files import existing_file

NAME = "lookm-server"
EMBEDDED_FLAG = "--embedded"
MODEL_FLAGS = ("-m", "--model")
FILE_FLAGS = (*MODEL_FLAGS, "-mm", "--mmproj")
DOWNLOAD_FLAGS = (
    "-hf",
    "-hfr",
    "--hf-repo",
    "-mu",
    "--model-url",
    "-mmu",
    "--mmproj-url",
    "-dr",
    "--docker-repo",
)
DOWNLOAD_VARIABLES = tuple(
    f"LLAMA_ARG_{name}" for name in ("HF_REPO", "MODEL_URL", "MMPROJ_URL", "DOCKER_REPO")
)
TEMPLATE_FLAGS = ("--chat-template", "--chat-template-file", "--no-jinja")


def server_path() -> Path:
    """Where lookm-server is: next to the running Python, else on PATH.

    Raises:
        FileNotFoundError: The package was built without it.
    """
    places = (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent)
    found = shutil.which(NAME, path=os.pathsep.join(map(str, places))) or shutil.which(NAME)
    if found is None:
        raise FileNotFoundError(
            f"{NAME} is not in {places[0]} nor on PATH; "
            "expected a package built with LOOKM_SERVER=ON"
        )
    return Path(found)


def server_arguments(arguments: list[str]) -> list[str]:
    """The server's own arguments.

    ``-m embedded``, or ``--embedded``, becomes the files of the shipped model and its chat
    template, which labels pictures as the model knows them. Another template may be given.

    >>> server_arguments(["-m", "embedded", "--port", "8081"])[-2:]
    ['--port', '8081']
    >>> server_arguments(["-m", "model.gguf"])
    ['-m', 'model.gguf']

    Raises:
        ValueError: ``--embedded`` together with another model, which llama-server would download
            in place of the shipped one.
    """
    arguments = _with_embedded_flag(arguments)
    if EMBEDDED_FLAG not in arguments:
        return arguments
    rest = [argument for argument in arguments if argument != EMBEDDED_FLAG]
    others = [flag for flag in FILE_FLAGS if flag in rest] + _downloads(rest)
    if others:
        raise ValueError(f"{EMBEDDED_FLAG} is given with {others[0]}, expected one model")
    template = (
        [] if set(TEMPLATE_FLAGS) & set(rest) else ["--chat-template-file", str(embedded.TEMPLATE)]
    )
    files = ["-m", str(embedded.MODEL), "--mmproj", str(embedded.MMPROJ), "--no-check-files"]
    return [*files, *template, *rest]


def _with_embedded_flag(arguments: list[str]) -> list[str]:
    for i, (flag, value) in enumerate(pairwise(arguments)):
        if flag in MODEL_FLAGS and value == embedded.NAME:
            return [*arguments[:i], EMBEDDED_FLAG, *arguments[i + 2 :]]
    return arguments


def _downloads(arguments: list[str]) -> list[str]:
    """The flags and variables that make llama-server download a model.

    Presets such as --fim-qwen-3b-default are among them. It reads --model_url as --model-url.
    """
    flags = {word.replace("_", "-") if word.startswith("--") else word for word in arguments}
    presets = sorted(
        f for f in flags if f.startswith("--") and f.endswith("-default") and f != "--spec-default"
    )
    variables = [name for name in DOWNLOAD_VARIABLES if os.environ.get(name)]
    return [flag for flag in DOWNLOAD_FLAGS if flag in flags] + presets + variables


def check_files(arguments: list[str]) -> None:
    """Refuse files that are not there, which the server says only at the end of its log.

    Raises:
        FileNotFoundError: A model that is not to be downloaded does not exist.
        ValueError: It is a directory.
    """
    if not _downloads(arguments):
        for flag, value in pairwise(arguments):
            if flag in FILE_FLAGS:
                existing_file(value, flag)


def serve(arguments: list[str]) -> int:
    """Become lookm-server, where the system can; else run it and return its exit code.

    Raises:
        FileNotFoundError: The server or a model is not there.
        ValueError: As of ``server_arguments``, or a model is a directory.
    """
    passed_on = server_arguments(arguments)
    check_files(passed_on)
    command = [str(server_path()), *passed_on]
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.run(command, check=False).returncode
