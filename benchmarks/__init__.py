"""Programs that measure what compression costs and saves; they are not part of the package."""

import os

# Cores are counted first: OpenMP binds this thread to one of them when lookm_cpp loads it.
_cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

# For builds with the compiler's own OpenMP (docs/backends.md): one thread on each core. This must
# be set before OpenMP is loaded. Otherwise, a kernel that does not balance load (seen on a virtual
# machine with two cores) may run all threads on one core, and the figures show waiting at barriers.
os.environ.setdefault("OMP_PROC_BIND", "true")
# NumPy only measures the machine, on threads of ours.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from lookm_cpp.bench import machine  # noqa: E402

machine.CORES[:] = _cores or machine.CORES
