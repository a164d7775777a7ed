"""Shapes of known models: with random weights they are as fast as the real ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

# A Q4_0 block holds 32 weights in 18 bytes.
BLOCK, BLOCK_BYTES = 32, 18
LEAST_VOCAB = 512


@dataclass(frozen=True)
class Shape:
    """The sizes that a decoder's speed depends on.

    Attributes:
        name: Its name in ``--shapes``.
        like: A model with such layers.
        n_embd: Width.
        n_ff: Width of the feed-forward part.
        n_head: Query heads; ``n_embd / n_head`` is the size of a head.
        n_head_kv: KV heads.
        n_layer: Layers.
        n_vocab: Tokens of the vocabulary.
        whole_layers: Layers of the whole model.
    """

    name: str
    like: str
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    n_layer: int
    n_vocab: int
    whole_layers: int

    def slice(self, n_layer: int) -> Shape:
        """``n_layer`` layers, and the same fraction of the vocabulary.

        So the parts of a token's work keep their proportions.

        >>> SHAPES["7b"].slice(4).n_vocab, SHAPES["7b"].slice(32) == SHAPES["7b"]
        (4000, True)
        """
        if n_layer >= self.n_layer:
            return self
        n_vocab = -(-self.n_vocab * n_layer // (self.n_layer * BLOCK)) * BLOCK
        return replace(self, n_layer=n_layer, n_vocab=max(LEAST_VOCAB, n_vocab))

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Name -> (rows, columns) of every Q4_0 matrix."""
        n_kv = self.n_embd // self.n_head * self.n_head_kv
        shapes = {"token_embd": (self.n_vocab, self.n_embd)}
        for il in range(self.n_layer):
            shapes |= {
                f"blk.{il}.attn_q": (self.n_embd, self.n_embd),
                f"blk.{il}.attn_k": (n_kv, self.n_embd),
                f"blk.{il}.attn_v": (n_kv, self.n_embd),
                f"blk.{il}.attn_output": (self.n_embd, self.n_embd),
                f"blk.{il}.ffn_gate": (self.n_ff, self.n_embd),
                f"blk.{il}.ffn_up": (self.n_ff, self.n_embd),
                f"blk.{il}.ffn_down": (self.n_embd, self.n_ff),
            }
        shapes["output"] = (self.n_vocab, self.n_embd)
        return shapes

    def norms(self) -> list[str]:
        """Names of the f32 norm weights."""
        layers = [
            f"blk.{il}.{name}" for il in range(self.n_layer) for name in ("attn_norm", "ffn_norm")
        ]
        return [*layers, "output_norm"]

    def weight_bytes(self) -> int:
        """Bytes of the matrices that one token reads.

        That is all of them but the embeddings, of which it reads one row.
        """
        sizes = (
            rows * columns
            for name, (rows, columns) in self.matrices().items()
            if name != "token_embd"
        )
        return sum(size // BLOCK * BLOCK_BYTES for size in sizes)


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("7b", "LLaVA-1.5-7B", 4096, 11008, 32, 32, 32, 32000, 32),
        Shape("3b", "Qwen2.5-VL-3B", 2048, 11008, 16, 2, 36, 151936, 36),
        Shape("0.5b", "LLaVA-OneVision-0.5B", 896, 4864, 14, 2, 24, 151936, 24),
    )
}
"""The language parts. Qwen's biases are left out, and its output matrix is not tied."""
