"""Optimizers: Muon for the matrices of the transformer blocks, AdamW for everything else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

# Newton-Schulz coefficients and steps of the published Muon.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Pushes the singular values of matrices [B, rows, columns] towards 1, by products only."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = (x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)).to(dtype)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, then an orthogonalized step with the root mean square of AdamW's.

    That is 0.2 times the rate. Matrices of one shape are stepped together: a few batched products
    instead of many small ones.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # noqa: ARG002 - torch's signature
        """One step along the gradients."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                moments = torch.stack(
                    [self._momentum(parameter, group["momentum"]) for parameter in parameters]
                )
                rate = group["lr"] * 0.2 * max(shape) ** 0.5
                for parameter, step in zip(
                    parameters, orthogonalize(moments, self.dtype), strict=True
                ):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(step, alpha=-rate)

    def _momentum(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov momentum of the gradient."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        average = state["momentum"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(average, momentum)


class Optimizers:
    """Both optimizers over a set of modules, driven as one."""

    def __init__(
        self, modules: Iterable[nn.Module], muon_rate: float, adam_rate: float, dtype: torch.dtype
    ) -> None:
        matrices, others = [], []
        for module in modules:
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    (matrices if parameter.dim() == 2 and _is_hidden(name) else others).append(
                        parameter
                    )
        self._parts: list[tuple[torch.optim.Optimizer, float]] = [
            (Muon(matrices, lr=muon_rate, dtype=dtype), muon_rate),
            (
                torch.optim.AdamW(
                    others, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
                ),
                adam_rate,
            ),
        ]

    def step(self, factor: float) -> None:
        """One step at `factor` times the base rates; clears the gradients."""
        for optimizer, rate in self._parts:
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad()

    def state(self) -> list[dict]:
        """Both optimizers' states, for a checkpoint."""
        return [optimizer.state_dict() for optimizer, _ in self._parts]

    def load_state(self, states: list[dict]) -> None:
        """Takes up what `state` returned."""
        for (optimizer, _), state in zip(self._parts, states, strict=True):
            optimizer.load_state_dict(state)


def _is_hidden(name: str) -> bool:
    """Whether Muon applies: not to embeddings, pixels or classifier heads."""
    return not any(part in name for part in ("embedding", "position", "patch", "head"))
