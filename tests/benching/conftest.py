"""A model of a few hundred kilobytes in the way that ``lookm bench`` writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lookm_cpp.benching.job import Job, cases_of
from lookm_cpp.benching.random_model import model_file
from lookm_cpp.benching.shapes import Shape

TINY = Shape("tiny", "nothing", 128, 256, 4, 2, 2, 512, 2)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_file(tmp_path_factory.mktemp("models"), TINY)


@pytest.fixture
def make_job(tiny: Path) -> Callable[..., Job]:
    def make(**changes: object) -> Job:
        usual = {
            "model": str(tiny),
            "mmproj": None,
            "cells": 300,
            "cases": cases_of(["f16", "q8_0"], [0.2]),
            "method": "text_prior_pivot_merge",
            "answer_tokens": 5,
            "n_blocks": 3,
            "block_tokens": 2,
            "n_threads": 1,
            "n_gpu_layers": 0,
            "flash_attn": "auto",
        }
        return Job(**{**usual, **changes})  # type: ignore[arg-type]

    return make
