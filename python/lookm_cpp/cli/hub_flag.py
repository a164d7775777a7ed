"""``-hf``: a model of the hub in place of files, for every command that takes a model."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from lookm_cpp.hub import fetch

OPTION = "hf_repo"
MODEL = "model"
MMPROJ = "mmproj"


def hub_parameters(own: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """The parameters of a command, with ``-hf`` behind its model, which may then be left out."""
    if MODEL not in [parameter.name for parameter in own]:
        return own
    flag = typer.Option(
        "--hf-repo",
        "-hf",
        metavar="OWNER/REPO[:QUANT]",
        help="A model of the Hugging Face Hub and its projector, downloaded once, instead.  "
        "[default quant: Q4_K_M, else Q8_0]",
    )
    hub = inspect.Parameter(
        OPTION,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, flag],
    )
    found = []
    for parameter in own:
        one = parameter
        if one.name == MODEL and one.default is inspect.Parameter.empty:
            one = one.replace(default=None, kind=inspect.Parameter.KEYWORD_ONLY)
        found.append(one)
    at = max(i for i, one in enumerate(found) if one.name in (MODEL, MMPROJ))
    return [*found[: at + 1], hub, *found[at + 1 :]]


def with_hub_files(
    given: dict[str, Any], parameters: dict[str, inspect.Parameter]
) -> dict[str, Any]:
    """The values of a command, with a hub's model as files.

    Raises:
        ValueError: Neither or both are given, or as in ``fetch``.
    """
    if OPTION not in given:
        return given
    repo = given.pop(OPTION)
    default = parameters[MODEL].default
    if repo is None:
        if default is inspect.Parameter.empty and given[MODEL] is None:
            raise ValueError(
                "--model or -hf is missing, expected a GGUF file or a model of the hub"
            )
        return given
    if given[MODEL] not in (None, default):
        raise ValueError(f"-hf is {repo!r} beside --model {given[MODEL]!r}, expected one of them")
    wants = MMPROJ in parameters and not given.get("text_only") and given[MMPROJ] is None
    files = fetch(repo, mmproj=None if wants else False)
    found = {**given, MODEL: str(files.model)}
    return found | {MMPROJ: str(files.projector)} if files.projector else found
