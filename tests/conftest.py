"""Every test run draws the same examples: Hypothesis is derandomized, arrays come from seeded generators."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# print_blob: a failing example is printed with the one line that replays it. No deadline: slow machines run these too.
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
