"""Writes a model with LLaVA-1.5-7B's layer shape and random weights.

    python -m benchmarks.models MODEL.gguf --layers 8

Width, heads, feed-forward width and Q4_0 weights are those of the 7B model's language part. So each
layer computes and caches exactly what a real one does, in the same time. Two things are smaller:
the number of layers, and the vocabulary (4,096 tokens instead of 32,000), which only the last
matrix product of a token uses. The answers are noise.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from lookm_cpp.bench.model_shapes import SHAPES, Shape
from lookm_cpp.bench.random_model import write_model

N_VOCAB = 4096
N_CTX = 8192


def llava_shape(n_layer: int) -> Shape:
    """``n_layer`` layers, and the vocabulary of 4,096 tokens."""
    return replace(SHAPES["7b"], n_layer=n_layer, n_vocab=N_VOCAB)


def main() -> None:
    """Write the model, about 114 MB for each layer. The same seed gives the same bytes."""
    parser = argparse.ArgumentParser(
        description="Write a random model of LLaVA-1.5-7B's layer shape."
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write_model(args.path, llava_shape(args.layers), N_CTX, args.seed)


if __name__ == "__main__":
    main()
