"""Draws 2x2 grids and single emoji; training and test have different background hues."""

from __future__ import annotations

import colorsys
import random
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance

from .config import ModelSize
from .words import EMOJI

Split = Literal["train", "test"]

# Backgrounds in cyan and blue are kept for the test pictures.
_TEST_HUES = (0.45, 0.65)
# A patch belongs to an object if the object covers more of it than this.
_COVERAGE = 0.2
BACKGROUND = -1


class Renderer:
    """Draws pictures uint8 [size, size, 3] together with the class of every patch, int8 [patches].

    `sprites` are the RGBA pictures of the emoji in the order of `words.EMOJI`.
    """

    def __init__(self, sprites: list[Image.Image], model: ModelSize) -> None:
        self.sprites = sprites
        self.model = model

    def grid(self, split: Split, seed: str) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        """Four different emoji, one in each quadrant.

        Returns picture, patch classes, classes by corner.
        """
        rng = random.Random(seed)
        canvas, labels = self.blank(split, rng)
        classes = tuple(rng.sample(range(len(EMOJI)), 4))
        half = self.model.image // 2
        for corner, label in enumerate(classes):
            size = rng.randint(half - 5, half)
            x = corner % 2 * half + rng.randint(0, half - size)
            y = corner // 2 * half + rng.randint(0, half - size)
            self.paste(canvas, labels, label, (x, y, size), rng, tilt=15)
        return np.asarray(canvas), labels, classes

    def single(self, split: Split, label: int, seed: str) -> tuple[np.ndarray, np.ndarray]:
        """One emoji of any size from half the picture on. Returns picture and patch classes."""
        rng = random.Random(seed)
        canvas, labels = self.blank(split, rng)
        full = self.model.image
        size = rng.randint(full // 2 - 2, full - 4)
        x, y = rng.randint(0, full - size), rng.randint(0, full - size)
        self.paste(canvas, labels, label, (x, y, size), rng, tilt=20)
        return np.asarray(canvas), labels

    def blank(self, split: Split, rng: random.Random) -> tuple[Image.Image, np.ndarray]:
        """A background (plain or a two-colour gradient, with noise) and its patch classes."""
        size = self.model.image
        first, second = _colour(split, rng), _colour(split, rng)
        ramp = np.linspace(0, 1, size)
        ramp = ramp[:, None] if rng.random() < 0.5 else ramp[None, :]
        gradient = rng.random() < 0.6
        pixels = (
            first + (second - first) * np.broadcast_to(ramp, (size, size))[..., None] * gradient
        )
        noise = np.random.default_rng(rng.getrandbits(32))
        pixels = pixels + noise.normal(0, rng.uniform(0, 12), pixels.shape)
        canvas = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        return canvas, np.full(self.model.picture_tokens, BACKGROUND, np.int8)

    def paste(
        self,
        canvas: Image.Image,
        labels: np.ndarray,
        label: int,
        box: tuple[int, int, int],
        rng: random.Random,
        tilt: float,
    ) -> None:
        """Draw emoji `label` in `box` (x, y, edge), turned and lightened; mark its patches."""
        x, y, edge = box
        sprite = self.sprites[label].rotate(
            rng.uniform(-tilt, tilt), resample=Image.Resampling.BICUBIC
        )
        sprite = sprite.resize((edge, edge), Image.Resampling.BILINEAR)
        alpha = sprite.getchannel("A")
        lit = ImageEnhance.Brightness(sprite.convert("RGB")).enhance(rng.uniform(0.8, 1.15))
        canvas.paste(lit, (x, y), alpha)
        cover = np.zeros((self.model.image, self.model.image))
        cover[y : y + edge, x : x + edge] = np.asarray(alpha) / 255
        labels[patch_coverage(cover, self.model) > _COVERAGE] = label


def patch_coverage(cover: np.ndarray, model: ModelSize) -> np.ndarray:
    """Mean of a mask [..., size, size] over each patch: [..., patches]."""
    grid, patch = model.grid, model.patch
    blocks = cover.reshape(*cover.shape[:-2], grid, patch, grid, patch)
    return blocks.mean((-3, -1)).reshape(*cover.shape[:-2], model.picture_tokens)


def shape_patches(pictures: np.ndarray, model: ModelSize) -> np.ndarray:
    """The patches of plain pictures [N, size, size, 3] with the shape: bool [N, patches]."""
    corners = pictures[:, [0, 0, -1, -1], [0, -1, 0, -1]].astype(float)
    background = np.median(corners, axis=1)[:, None, None]
    differs = np.abs(pictures - background).max(-1) > 30
    return patch_coverage(differs.astype(float), model) > _COVERAGE


def _colour(split: Split, rng: random.Random) -> np.ndarray:
    """A background colour whose hue belongs to the split."""
    while True:
        hue = rng.random()
        if (_TEST_HUES[0] < hue < _TEST_HUES[1]) == (split == "test"):
            break
    return np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0, 0.7), rng.uniform(0.35, 1))) * 255
