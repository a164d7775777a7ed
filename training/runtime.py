"""What every stage needs around its steps: precision, progress and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from .config import Config
from .optim import Optimizers


def compute_type(precision: str) -> torch.dtype:
    """The type of matrix products: bfloat16 only if the processor multiplies it natively."""
    if precision == "auto":
        capabilities = torch.cpu.get_capabilities()
        native = any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))
        precision = "bf16" if native else "fp32"
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]


class Runtime:
    """Carries the configuration, the console and the arithmetic of a run."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.console = Console(soft_wrap=True, highlight=False)
        self.dtype = compute_type(config.precision)
        if config.threads:
            torch.set_num_threads(config.threads)
        config.out.mkdir(parents=True, exist_ok=True)

    def log(self, text: str) -> None:
        """One line, with the time."""
        self.console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False)

    def autocast(self) -> torch.autocast:
        """Mixed precision where it pays, else nothing."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    @contextmanager
    def steps(self, name: str, first: int, last: int) -> Iterator[Iterator[int]]:
        """Step numbers from `first` to before `last`, with a bar if somebody is watching."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns, console=self.console, disable=not self.console.is_terminal
        ) as progress:
            bar = progress.add_task(name, total=last, completed=first)

            def count() -> Iterator[int]:
                for step in range(first, last):
                    yield step
                    progress.update(bar, completed=step + 1)

            yield count()

    def train(
        self,
        stage: str,
        net: nn.Module,
        optimizers: Optimizers,
        steps: int,
        loss_of: Callable[[int], Tensor],
        rate: Callable[[int], float],
    ) -> bool:
        """Trains a net from its last checkpoint on; False if there is nothing left to do.

        `loss_of` and `rate` give a step's loss and its factor of the base rates.
        """
        first = 0
        if state := self.load(stage):
            net.load_state_dict(state["net"])
            optimizers.load_state(state["optimizers"])
            first = state["step"]
        if first >= steps:
            return False

        def save(step: int) -> None:
            self.save(
                stage, {"net": net.state_dict(), "optimizers": optimizers.state(), "step": step}
            )

        log_due, save_due = Timer(self.config.log_seconds), Timer(self.config.save_seconds)
        with self.steps(stage, first, steps) as numbers:
            for step in numbers:
                loss = loss_of(step)
                loss.backward()
                optimizers.step(rate(step))
                if log_due.due():
                    self.log(f"{stage} step {step + 1}/{steps} loss {loss.item():.3f}")
                if save_due.due():
                    save(step + 1)
        save(steps)
        return True

    def checkpoint(self, stage: str) -> Path:
        """The stage's checkpoint file."""
        return self.config.out / f"{stage}.pt"

    def save(self, stage: str, state: dict) -> None:
        """Writes a checkpoint such that a crash leaves the one before."""
        path = self.checkpoint(stage)
        partial = path.with_suffix(".partial")
        torch.save({**state, "made_for": self._purpose()}, partial)
        partial.replace(path)

    def load(self, stage: str) -> dict | None:
        """The stage's checkpoint, if there is one; refuses one of a different run."""
        path = self.checkpoint(stage)
        if not path.exists():
            return None
        state = torch.load(path, weights_only=True)
        if state["made_for"] != self._purpose():
            raise ValueError(
                f"{path} belongs to a run with another seed, model or data; "
                "remove it or choose another --out"
            )
        return state

    def _purpose(self) -> str:
        """What a checkpoint must agree with to be of use.

        Numbers of steps may change between runs.
        """
        return repr((self.config.seed, self.config.model, self.config.data))


class Timer:
    """True once every `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.last = time.monotonic()

    def due(self) -> bool:
        """Whether the time is up; restarts it if so."""
        if time.monotonic() - self.last < self.seconds:
            return False
        self.last = time.monotonic()
        return True
