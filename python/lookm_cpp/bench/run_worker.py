"""Starts a worker process and passes on what it measures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lookm_cpp.bench.workload import Workload

_COMMAND = (sys.executable, "-m", "lookm_cpp.bench.worker")


def run(
    workload: Workload, *, calibrate: Mapping[str, Sequence[int]] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the records of a worker process as it writes them.

    In a build with the compiler's own OpenMP (docs/backends.md) each thread is bound to a core. On
    a small virtual machine, the kernel may otherwise keep all of them on one.

    Raises:
        RuntimeError: The workload failed as a whole, or its process died.
    """
    request = json.dumps({"workload": workload.as_dict(), "calibrate": calibrate})
    environment = {"OMP_PROC_BIND": "true", **os.environ}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            text=True,
        )
        try:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("the measuring process has no pipes")
            process.stdin.write(request)
            process.stdin.close()
            for line in process.stdout:
                found = json.loads(line)
                if "failed" in found:
                    raise RuntimeError(found["failed"])
                yield found
            process.wait()
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if process.returncode != 0:
            log.seek(0)
            raise RuntimeError(_why(process.returncode, log.read()))


def _why(code: int, log: str) -> str:
    """How a process ended, in one line."""
    last = (log.strip().splitlines() or [""])[-1]
    if code < 0:
        name = signal.Signals(-code).name
        hint = (
            ", which is how the system ends what takes too much memory" if name == "SIGKILL" else ""
        )
        return f"the measuring process was ended by {name}{hint}"
    return f"the measuring process ended with {code}: {last}"
