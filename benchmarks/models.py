"""A model of LLaVA-1.5-7B's layer shape with random weights: as fast as the real one, and made in
seconds.

    python -m benchmarks.models MODEL.gguf --layers 8

Width, heads, feed-forward width and Q4_0 weights are those of the 7B model's language part, so each
layer computes and caches exactly what a real one does. Two things are smaller: the number of
layers, and the vocabulary (4,096 tokens for 32,000), which only the last matrix product of a token
sees. What the model says is noise.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from lookm_cpp.benching.random_model import write_model
from lookm_cpp.benching.shapes import SHAPES, Shape

N_VOCAB = 4096
N_CTX = 8192


def llava_shape(n_layer: int) -> Shape:
    """So many layers, and the vocabulary of 4,096 tokens."""
    return replace(SHAPES["7b"], n_layer=n_layer, n_vocab=N_VOCAB)


def write_llava_shape(path: str | Path, n_layer: int = 8, seed: int = 0) -> None:
    """Write the model to ``path``: about 114 MB a layer. The same seed writes the same bytes."""
    write_model(Path(path), llava_shape(n_layer), N_CTX, seed)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Write a random model of LLaVA-1.5-7B's layer shape."
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write_llava_shape(args.path, args.layers, args.seed)


if __name__ == "__main__":
    main()
