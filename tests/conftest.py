"""Every test run draws the same examples:

Hypothesis is derandomized, arrays come from seeded generators.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

BACKENDS = ("cpu", "rpc", "rpc-2", "gpu")

# print_blob: a failing example is printed with the one line that replays it. No deadline: slow
# machines run these too.
settings.register_profile(
    "lookm",
    derandomize=True,
    database=None,
    print_blob=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("lookm")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        choices=BACKENDS,
        help="where the cache lies in tests that run on several backends: cpu, one or two RPC "
        "servers on this machine, or the accelerators that this build finds; may be given again  "
        "[default: cpu, rpc and rpc-2]",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--backend") or ["cpu", "rpc", "rpc-2"]
        metafunc.parametrize("backend", chosen, indirect=True, scope="module")
