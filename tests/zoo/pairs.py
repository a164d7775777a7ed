"""The zoo: pairs of a tiny random language model and image encoder, by the models' usual names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from zoo.decoder_table import DECODERS
from zoo.decoders import TEMPLATE, write_decoder
from zoo.encoder_table import ENCODERS
from zoo.encoders import write_encoder

Size = tuple[int, int]

WIDE, TALL = (96, 64), (56, 112)
"""Two images, ``(width, height)``."""


@dataclass(frozen=True)
class Pair:
    """A model of the zoo, and the numbers of cells that its prompt must have, counted by hand."""

    decoder: str
    tiles: tuple[tuple[int, ...], tuple[int, ...]]
    """Cells of each piece of the two images; a single piece if the model cuts no tiles."""
    n_marks: int = 0
    """Text tokens that mtmd puts around the two images and their pieces."""
    special_tokens: tuple[str, ...] = ()
    images: tuple[Size, Size] = (WIDE, TALL)
    sides: tuple[int, int] | None = None
    """With M-RoPE, positions that each image takes: the longer side of its grid of cells."""
    n_layer: int | None = None
    """Number of layers that are compressed; default: all."""
    readers: tuple[int, ...] = ()
    """How many layers attend to the cache of each compressed layer; default: one."""
    at_once: bool = False
    """Whether the cells of an image see each other, so that they must be computed together."""

    @property
    def small_ubatch(self) -> int:
        """An n_ubatch smaller than the largest image, if the model allows that."""
        largest = max(n for tiles in self.tiles for n in tiles)
        return largest if self.at_once else 12


class Files(NamedTuple):
    """A pair on disk."""

    model: Path
    mmproj: Path


QWEN_MARKS = ("<|vision_start|>", "<|vision_end|>")
QWEN_IMAGES = ((320, 224), (160, 288))
"""In pixels; a cell is 32 x 32 pixels."""

PAIRS = {
    # 64 x 64 pixels in patches of 8
    "llava-1.5": Pair("llama", ((64,), (64,))),
    # 2 x 2 tiles fit the wide image best, 1 x 2 the tall one
    "llava-1.6": Pair("llama", ((16,) * 5, (16,) * 3)),
    # 10 x 7 and 5 x 9 cells between two marks
    "qwen2-vl": Pair("qwen2vl", ((70,), (45,)), 4, QWEN_MARKS, QWEN_IMAGES, sides=(10, 9)),
    "qwen2.5-vl": Pair("qwen2vl", ((70,), (45,)), 4, QWEN_MARKS, QWEN_IMAGES, sides=(10, 9)),
    "qwen3-vl": Pair("qwen3vl", ((70,), (45,)), 4, QWEN_MARKS, QWEN_IMAGES, sides=(10, 9)),
    "qwen3.5": Pair("qwen35", ((70,), (45,)), 4, QWEN_MARKS, QWEN_IMAGES, sides=(10, 9), n_layer=2),
    "glm-4v": Pair(
        "glm4",
        ((70,), (45,)),
        4,
        ("<|begin_of_image|>", "<|end_of_image|>"),
        QWEN_IMAGES,
        sides=(10, 9),
    ),
    "paddleocr-vl": Pair(
        "paddleocr",
        ((70,), (45,)),
        4,
        ("<|IMAGE_START|>", "<|IMAGE_END|>"),
        QWEN_IMAGES,
        sides=(10, 9),
    ),
    # the projector adds a newline after each row, a begin and an end, each with its own position
    "hunyuan-vl": Pair(
        "hunyuan_vl",
        ((11 * 7 + 2,), (6 * 9 + 2,)),
        4,
        (
            "<\uff5chy_place\u2581holder\u2581no\u2581100\uff5c>",
            "<\uff5chy_place\u2581holder\u2581no\u2581101\uff5c>",
        ),
        QWEN_IMAGES,
    ),
    # 8 x 8 patches between a begin and an end from the projector
    "cogvlm": Pair("cogvlm", ((66,), (66,))),
    "janus-pro": Pair("llama", ((64,), (64,))),
    "phi-4": Pair("phi3", ((12 * 8,), (7 * 14,)), 0, ("<|endoftext|>",)),
    # 8 x 8 pixels for each cell; tiles only from 512 x 512 pixels on
    "lfm2-vl": Pair(
        "lfm2", ((12 * 8,), (7 * 14,)), 4, ("<|image_start|>", "<|image_end|>"), n_layer=2
    ),
    # two of the four layers have windows
    "gemma-3": Pair(
        "gemma3", ((64,), (64,)), 4, ("<start_of_image>", "<end_of_image>"), n_layer=2, at_once=True
    ),
    # 8 x 8 pixels for each cell
    "gemma-4": Pair(
        "gemma4", ((12 * 8,), (7 * 14,)), 4, ("<|image>", "<image|>"), n_layer=2, at_once=True
    ),
    # the last layer reads the cache of the second one that is compressed
    "gemma-4-e2b": Pair(
        "gemma4-e2b",
        ((12 * 8,), (7 * 14,)),
        4,
        ("<|image>", "<image|>"),
        n_layer=2,
        readers=(1, 2),
        at_once=True,
    ),
    # 3 x 2 and 2 x 3 tiles, then the whole; one of the four layers sees beyond its chunk
    "llama-4": Pair(
        "llama4", ((16,) * 7, (16,) * 7), 4, ("<|image_start|>", "<|image_end|>"), n_layer=1
    ),
    # 2 x 2 and 1 x 2 tiles, then the whole
    "internvl": Pair("qwen2", ((16,) * 5, (16,) * 3), 4, ("<img>", "</img>")),
    "internvl-3.5": Pair("qwen3", ((16,) * 5, (16,) * 3), 4, ("<img>", "</img>")),
    # 2 x 2 and 1 x 2 tiles with two marks each, a newline between rows, then the whole between
    # three marks and one
    "smolvlm": Pair(
        "llama",
        ((16,) * 5, (16,) * 3),
        (4 * 2 + 1 + 4) + (2 * 2 + 1 + 4),
        (
            "\n\n",
            "<fake_token_around_image>",
            "<global-img>",
            *(f"<row_{y}_col_{x}>" for y in (1, 2) for x in (1, 2)),
        ),
    ),
    # 12 x 8 and 7 x 14 patches, [IMG_BREAK] between rows, [IMG_END] after the last
    "pixtral": Pair("llama", ((12 * 8 + 7,), (7 * 14 + 13,)), 2, ("[IMG_END]",)),
    # 6 x 4 and 4 x 7 merged patches
    "mistral-small-3.1": Pair("llama", ((6 * 4 + 3,), (4 * 7 + 6,)), 2, ("[IMG_END]",)),
    "mistral-small-3.2": Pair("mistral3", ((6 * 4 + 3,), (4 * 7 + 6,)), 2, ("[IMG_END]",)),
    # the whole and 3 x 2 slices, the whole and 2 x 4 slices: two marks each, and a newline between
    # rows
    "minicpm-v-2.6": Pair(
        "qwen2",
        ((16,) * 7, (16,) * 9),
        (7 * 2 + 1) + (9 * 2 + 3),
        ("<image>", "</image>", "<slice>", "</slice>"),
    ),
    "mobilevlm": Pair("llama", ((144,), (144,))),
    "mobilevlm-v2": Pair("llama", ((144,), (144,))),
}

REFUSED = {
    "kimi-vl": Pair("deepseek2", ((12 * 8,), (7 * 14,)), 4, ("<|media_start|>", "<|media_end|>"))
}
"""Pairs whose cache cannot be compressed."""


def write_pair(name: str, folder: Path, chat_template: str | None = TEMPLATE) -> Files:
    """Writes the files of one pair into a new folder."""
    pair, home = (PAIRS | REFUSED)[name], folder / name
    home.mkdir()
    model = write_decoder(
        home / "model.gguf", DECODERS[pair.decoder], list(pair.special_tokens), chat_template
    )
    return Files(model, write_encoder(home / "mmproj.gguf", ENCODERS[name]))
