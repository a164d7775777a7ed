"""Stage 0: pre-trains vision encoder and projector from nothing, with a target for every patch.

Each visual word (emoji, colour, shape, "top", "left", ...) gets a direction in the decoder's
embedding space: random, orthogonal, fixed. A picture token must point along the directions of what
its own patch shows and of where it lies. In stage 1 the words' embeddings start as the same
directions: pictures and words then speak one language at once.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import Config, Stage0
from .data import SHAPE, Pool
from .model import Projector, VisionEncoder
from .optim import Optimizers
from .render import BACKGROUND, Split
from .runtime import Runtime
from .words import COLOURS, COLUMNS, EMOJI, ROWS, SHAPES, VISUAL_WORDS

NAME = "stage0"


def word_directions(width: int, seed: int) -> Tensor:
    """Orthogonal unit vectors, one for each visual word and the background: [words + 1, width]."""
    generator = torch.Generator().manual_seed(seed)
    square = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    return square[: len(VISUAL_WORDS) + 1].contiguous()


def _columns(words: tuple[str, ...] | list[str]) -> list[int]:
    return [VISUAL_WORDS.index(word) for word in words]


class PatchClassifier(nn.Module):
    """Encoder and projector, read out by the cosine between picture tokens and word directions."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        size = config.model
        self.vision = VisionEncoder(size)
        self.projector = Projector(size.vision_width, size.width, size.width)
        self.register_buffer(
            "directions", word_directions(size.width, config.seed), persistent=False
        )
        # Classes, colours, shapes, rows, columns.
        self.scales = nn.Parameter(torch.full((5,), config.stage0.logit_scale))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [B, size, size, 3] to cosines [B, patches, words + 1] and lengths [B, patches]."""
        tokens = self.projector(self.vision(pictures)).float()
        lengths = tokens.norm(dim=-1)
        return F.linear(tokens / lengths.clamp(min=1e-4)[..., None], self.directions), lengths


class Targets:
    """Targets of all pictures and patches of a pool: [N, patches]; -100 = none."""

    def __init__(self, pool: Pool, grid: int) -> None:
        labels = torch.from_numpy(pool.labels).long()
        background, on_shape = labels == BACKGROUND, labels == SHAPE
        self.classes = labels.masked_fill(background, len(EMOJI)).masked_fill(on_shape, -100)

        def attribute(words: list[str], part: int) -> Tensor:
            """The word's number on the patches of an easy-VQA shape."""
            number = torch.tensor(
                [words.index(p.names[part]) if p.kind == "shape" else -100 for p in pool.pictures]
            )
            return torch.where(on_shape, number[:, None], -100)

        self.colours, self.shapes = attribute(COLOURS, 0), attribute(SHAPES, 1)
        place = torch.arange(grid) * 2 // grid
        self.rows, self.columns = place.repeat_interleave(grid), place.repeat(grid)


def _groups(
    cosines: Tensor, targets: Targets, which: Tensor, scales: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """Logits [B * patches, choices] and targets [B * patches] of each kind of target."""
    flat, count = cosines.flatten(0, 1), len(which)
    columns = {
        "class": [*_columns(EMOJI), len(VISUAL_WORDS)],
        "colour": _columns(COLOURS),
        "shape": _columns(SHAPES),
        "row": _columns(ROWS),
        "column": _columns(COLUMNS),
    }
    wanted = {
        "class": targets.classes[which].flatten(),
        "colour": targets.colours[which].flatten(),
        "shape": targets.shapes[which].flatten(),
        "row": targets.rows.repeat(count),
        "column": targets.columns.repeat(count),
    }
    return {
        name: (flat[:, columns[name]] * scale, wanted[name])
        for name, scale in zip(columns, scales, strict=True)
    }


def _loss(groups: dict[str, tuple[Tensor, Tensor]], lengths: Tensor, stage: Stage0) -> Tensor:
    class_weights = torch.ones(len(EMOJI) + 1)
    class_weights[-1] = stage.background_weight
    weights = {
        "class": 1.0,
        "colour": stage.colour_weight,
        "shape": stage.shape_weight,
        "row": stage.corner_weight,
        "column": stage.corner_weight,
    }
    total = stage.norm_weight * ((lengths / stage.token_norm - 1) ** 2).mean()
    for name, (logits, wanted) in groups.items():
        total = total + weights[name] * F.cross_entropy(
            logits, wanted, class_weights if name == "class" else None
        )
    return total


class _Sampler:
    """Draws the pictures of a step: so many of each kind, the same for the same step."""

    def __init__(self, pool: Pool, config: Config) -> None:
        stage = config.stage0
        self.seed = config.seed
        self.parts = [
            (np.array(pool.of_kind("grid")), stage.grids),
            (np.array(pool.of_kind("single")), stage.singles),
            (np.array(pool.of_kind("shape")), stage.shapes),
        ]

    def draw(self, step: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, step])
        return np.concatenate([rng.choice(numbers, count) for numbers, count in self.parts])


def rate_factor(step: int, stage: Stage0) -> float:
    """Warm-up, then a cosine to (nearly) zero."""
    return min(1.0, (step + 1) / stage.warmup) * max(
        0.02, 0.5 + 0.5 * math.cos(math.pi * step / stage.steps)
    )


def run(runtime: Runtime, pools: dict[Split, Pool]) -> PatchClassifier:
    """Trains (or resumes, or just loads) the stage."""
    config, stage = runtime.config, runtime.config.stage0
    torch.manual_seed(config.seed)
    net = PatchClassifier(config)
    optimizers = Optimizers([net], stage.muon_rate, stage.adam_rate, runtime.dtype)
    pool, targets = pools["train"], Targets(pools["train"], config.model.grid)
    sampler = _Sampler(pool, config)
    forward = torch.compile(net) if config.compile else net

    def loss_of(step: int) -> Tensor:
        which = sampler.draw(step)
        with runtime.autocast():
            cosines, lengths = forward(torch.from_numpy(pool.pixels[which]))
        groups = _groups(cosines.float(), targets, torch.from_numpy(which), net.scales)
        return _loss(groups, lengths.float(), stage)

    if runtime.train(
        NAME, net, optimizers, stage.steps, loss_of, lambda step: rate_factor(step, stage)
    ):
        runtime.log("stage 0 held out: " + report(patch_accuracy(runtime, net, pools["test"])))
    return net


@torch.no_grad()
def patch_accuracy(
    runtime: Runtime, net: PatchClassifier, pool: Pool, limit: int = 400
) -> dict[str, float]:
    """Fraction of right patches by kind of target (`class` without the background)."""
    kinds = (np.array(pool.of_kind(kind)) for kind in ("grid", "single", "shape"))
    # Every n-th one: single emoji are ordered by class.
    which = np.concatenate([numbers[:: -(-len(numbers) // limit)] for numbers in kinds])
    targets = Targets(pool, runtime.config.model.grid)
    with runtime.autocast():
        cosines, _ = net(torch.from_numpy(pool.pixels[which]))
    result = {}
    for name, (logits, wanted) in _groups(
        cosines, targets, torch.from_numpy(which), net.scales
    ).items():
        hit, known = logits.argmax(-1) == wanted, wanted >= 0
        if name == "class":
            empty = wanted == len(EMOJI)
            result["background"] = hit[empty].float().mean().item()
            known &= ~empty
        result[name] = hit[known].float().mean().item()
    return result


def report(shares: dict[str, float]) -> str:
    """The shares on one line."""
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
