"""A model of a few hundred kilobytes in the way that ``lookm bench`` writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lookm_cpp.bench.model_shapes import Shape
from lookm_cpp.bench.random_model import model_file
from lookm_cpp.bench.workload import Workload, cases_of

TINY = Shape("tiny", "nothing", 128, 256, 4, 2, 2, 512, 2)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_file(tmp_path_factory.mktemp("models"), TINY)


@pytest.fixture
def make_workload(tiny: Path) -> Callable[..., Workload]:
    def make(**changes: object) -> Workload:
        usual = {
            "model": str(tiny),
            "mmproj": None,
            "cells": 300,
            "cases": cases_of(["f16", "q8_0"], [0.2]),
            "answer_tokens": 5,
            "n_blocks": 3,
            "block_tokens": 2,
            "opened": {
                "n_threads": 1,
                "n_gpu_layers": 0,
                "n_ubatch": 512,
                "flash_attn": "auto",
            },
            "compression": {"method": "text_prior_pivot_merge"},
        }
        return Workload(**{**usual, **changes})  # type: ignore[arg-type]

    return make
