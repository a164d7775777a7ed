"""Larger pictures, and the tower that reads them: 128 x 128 pixels, 256 patches, 4 x 4 things.

A thing is an emoji, a printed digit or a printed word. In a prompt of eight such pictures, text is
about a twentieth of the cells, as it is with real vision encoders.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from .config import Config, ModelSize
from .data import Picture, Pool, kept_pools, load_sprites
from .model import VisionEncoder
from .optim import Optimizers
from .render import BACKGROUND, Renderer, Split
from .runtime import Runtime
from .words import EMOJI

IMAGE = 128
SIDE = 4  # things along an edge
DIGITS = tuple("0123456789")
_PRINTED = """
    milk salt fire exit stop open gold iron north south east west lake moon rice coal silk wolf
"""
WORDS = tuple(_PRINTED.split())
NAMES = (*EMOJI, *DIGITS, *WORDS)
TRAIN, TEST = 9000, 400
NAME = "large-tower"
STEPS, RATE = 800, 2e-3


def draw(
    renderer: Renderer, split: Split, number: int
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Picture `number` of a split: pixels, patch classes, 16 names by row ("" is nothing)."""
    rng = random.Random(f"large {split}{number}")
    canvas, labels = renderer.blank(split, rng)
    cell = renderer.model.image // SIDE
    names = []
    for place in range(SIDE * SIDE):
        x0, y0 = place % SIDE * cell, place // SIDE * cell
        kind = rng.choices(("emoji", "digit", "word", ""), (0.5, 0.2, 0.25, 0.05))[0]
        name = rng.choice({"emoji": EMOJI, "digit": DIGITS, "word": WORDS, "": ("",)}[kind])
        names.append(name)
        if kind == "emoji":
            edge = rng.randint(cell - 6, cell)
            box = (x0 + rng.randint(0, cell - edge), y0 + rng.randint(0, cell - edge), edge)
            renderer.paste(canvas, labels, EMOJI.index(name), box, rng, tilt=15)
        elif kind:
            _print(canvas, labels, renderer.model, name, (x0, y0, cell), rng)
    return np.asarray(canvas), labels, tuple(names)


def _print(
    canvas: Image.Image,
    labels: np.ndarray,
    model: ModelSize,
    text: str,
    box: tuple[int, int, int],
    rng: random.Random,
) -> None:
    """Draws a text on a plate of its own, and marks the plate's patches."""
    x0, y0, cell = box
    dark = rng.random() < 0.5
    plate = tuple(rng.randint(*((0, 70) if dark else (185, 255))) for _ in range(3))
    ink = tuple(rng.randint(*((185, 255) if dark else (0, 70))) for _ in range(3))
    pad = ImageDraw.Draw(canvas)
    pad.rectangle((x0, y0, x0 + cell - 1, y0 + cell - 1), fill=plate)
    font = ImageFont.load_default(rng.randint(24, 30) if len(text) == 1 else rng.randint(12, 14))
    left, top, right, bottom = pad.textbbox((0, 0), text, font=font)
    slack_x, slack_y = max(0, cell - (right - left)), max(0, cell - (bottom - top))
    at = (x0 - left + rng.randint(0, slack_x), y0 - top + rng.randint(0, slack_y))
    pad.text(at, text, fill=ink, font=font)
    mask = np.zeros((model.grid, model.grid), bool)
    p = model.patch
    mask[y0 // p : (y0 + cell) // p, x0 // p : (x0 + cell) // p] = True
    labels[mask.ravel()] = NAMES.index(text)


def prepare(config: Config, log: Callable[[str], None]) -> dict[Split, Pool]:
    """Both pools, from the run's folder if they are there."""
    counts = {"train": TRAIN, "test": TEST}

    def render(split: Split) -> Pool:
        renderer = Renderer(load_sprites(config.out / "data"), config.model)
        with get_context("spawn").Pool() as workers:
            drawn = workers.map(partial(draw, renderer, split), range(counts[split]), chunksize=100)
        return Pool(
            np.stack([pixels for pixels, _, _ in drawn]),
            np.stack([labels for _, labels, _ in drawn]),
            [Picture("grid", names) for _, _, names in drawn],
        )

    return kept_pools(config.out / "large", {**counts, "names": list(NAMES)}, render, log)


class PatchReader(nn.Module):
    """Encoder and a linear head over its patches."""

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        self.vision = VisionEncoder(size)
        self.head = nn.Linear(size.vision_width, len(NAMES) + 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 [B, size, size, 3] -> logits [B, patches, names + 1]."""
        return self.head(self.vision(pictures))


def tower(runtime: Runtime, pools: dict[Split, Pool]) -> VisionEncoder:
    """The encoder, trained (or resumed, or just loaded) as a classifier of patches."""
    config, pool = runtime.config, pools["train"]
    torch.manual_seed(config.seed)
    net = PatchReader(config.model)
    optimizers = Optimizers([net], RATE, RATE, runtime.dtype)
    labels = np.where(pool.labels == BACKGROUND, len(NAMES), pool.labels).astype(np.int64)
    weights = torch.ones(len(NAMES) + 1)
    weights[-1] = 0.3  # most patches are background

    def loss_of(step: int) -> Tensor:
        which = np.random.default_rng([config.seed, step]).integers(len(pool.pixels), size=64)
        with runtime.autocast():
            logits = net(torch.from_numpy(pool.pixels[which]))
        wanted = torch.from_numpy(labels[which]).flatten()
        return F.cross_entropy(logits.float().flatten(0, 1), wanted, weights)

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / 20) * max(0.02, 1 - step / STEPS)

    runtime.train(NAME, net, optimizers, STEPS, loss_of, rate)
    return net.vision.eval()
