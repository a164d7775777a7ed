"""What compression costs and what it brings, on a model of LLaVA-1.5-7B's layer shape."""

import os

# Counted first: OpenMP binds this thread to one of them when it is loaded, with lookm_cpp.
_cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

# For builds with the compiler's own OpenMP (docs/backends.md): one thread on each core, said
# before it is loaded. Without it a kernel that does not balance load (seen on a virtual machine of
# two cores) may run all threads on one core and make every figure one of waiting at barriers.
os.environ.setdefault("OMP_PROC_BIND", "true")
os.environ.setdefault(
    "OPENBLAS_NUM_THREADS", "1"
)  # NumPy only measures the machine, on threads of ours

from lookm_cpp.benching import machine  # noqa: E402

machine.CORES[:] = _cores or machine.CORES
