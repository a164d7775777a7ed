"""The page of the Python API: public names only, and dicts with the keys that they really have."""

from __future__ import annotations

import pydoc
import re
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp import devices, info_types, methods, model_info, plan
from lookm_cpp.embedded import MMPROJ, MODEL

PAGE = Path(__file__).parents[2] / "docs/api.md"
NAMES = re.findall(r"^::: (\S+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_a_documented_name_is_public_and_can_be_imported(name: str) -> None:
    assert not [part for part in name.split(".") if part.startswith("_")]
    assert pydoc.locate(name) is not None


@pytest.fixture(scope="module")
def returned() -> dict[str, Any]:
    planned = plan(MODEL, mmproj=MMPROJ, images=1)
    return {
        "MemoryPlan": planned,
        "StageBytes": planned["reading"],
        "ModelInfo": model_info(MODEL),
        "DeviceInfo": devices()[0],
        "MethodDefaults": methods()["h2o"],
    }


@pytest.mark.parametrize(
    "name", ["MemoryPlan", "StageBytes", "ModelInfo", "DeviceInfo", "MethodDefaults"]
)
def test_a_dict_has_the_keys_that_its_type_documents(name: str, returned: dict[str, Any]) -> None:
    typed = getattr(info_types, name)
    documented = re.findall(r"^        (\w+): ", typed.__doc__, re.MULTILINE)
    assert documented == list(typed.__annotations__)
    assert set(returned[name]) == set(documented)
