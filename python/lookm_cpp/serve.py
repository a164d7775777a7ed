"""``lookm serve``: hands over to the server that was built with the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from lookm_cpp import embedded

NAME = "lookm-server"
EMBEDDED_FLAG = "--embedded"
MODEL_FLAGS = ("-m", "--model", "-mm", "--mmproj", "-hf", "-hfr", "--hf-repo")
TEMPLATE_FLAGS = ("--chat-template", "--chat-template-file", "--no-jinja")


def server_path() -> Path:
    """Where lookm-server is: beside the running Python, else on PATH.

    Raises:
        FileNotFoundError: The package was built without it.
    """
    places = (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent)
    found = shutil.which(NAME, path=os.pathsep.join(map(str, places))) or shutil.which(NAME)
    if found is None:
        raise FileNotFoundError(
            f"{NAME} is not in {places[0]} nor on PATH; expected a package built with LOOKM_SERVER=ON"
        )
    return Path(found)


def server_arguments(arguments: list[str]) -> list[str]:
    """The server's own arguments: ``--embedded`` becomes the shipped model's files, and the chat template that labels
    pictures as the model knows them, unless another is given.

    >>> server_arguments(["--embedded", "--port", "8081"])[-2:]
    ['--port', '8081']
    >>> server_arguments(["-m", "model.gguf"])
    ['-m', 'model.gguf']

    Raises:
        ValueError: ``--embedded`` beside another model.
    """
    if EMBEDDED_FLAG not in arguments:
        return arguments
    rest = [argument for argument in arguments if argument != EMBEDDED_FLAG]
    for flag in MODEL_FLAGS:
        if flag in rest:
            raise ValueError(f"{EMBEDDED_FLAG} is given beside {flag}, expected one model")
    template = [] if set(TEMPLATE_FLAGS) & set(rest) else ["--chat-template-file", str(embedded.TEMPLATE)]
    return ["-m", str(embedded.MODEL), "--mmproj", str(embedded.MMPROJ), *template, *rest]


def serve(arguments: list[str]) -> int:
    """Become lookm-server, where the system can; else run it and return its exit code."""
    command = [str(server_path()), *server_arguments(arguments)]
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.run(command, check=False).returncode
