"""What happened to the last prompt."""

from __future__ import annotations

from dataclasses import asdict, dataclass

RATES = ("encode", "prefill", "score", "compress", "decode")


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


@dataclass(frozen=True)
class Stats:
    """Counts, bytes and times of one prompt and its answer. A cell is one token or image token of
    the KV cache.

    Attributes:
        prompt_cells: Cells of the prompt.
        text_cells: Those of text, template included, contexts not.
        image_cells: Those of images.
        context_cells: Those of contexts: text that may be evicted as an image may.
        squeezed_cells: Cells given up while the prompt was read, so that no more than ``kv_cells``
            were in use; in a conversation those of earlier turns' answers too.
        kept_cells: Cells left after compression; the same number in every layer and head.
        kept_text_cells: Those of text, in the mean over layers and heads, as each keeps cells of
            its own.
        kept_image_cells: Those of images, likewise.
        kept_context_cells: Those of contexts, likewise.
        kv_ratio: The real share kept, ``kept_cells / prompt_cells``.
        method: The method that ran.
        note: Why nothing was compressed; or which of text, images and contexts keeps less than a
            tenth of an even share of the kept cells; else empty.
        kv_bytes_used_before: Bytes of the cells in use before compression.
        kv_bytes_used_after: The same after compression.
        kv_bytes_allocated_before: Bytes of the KV buffers before compression.
        kv_bytes_allocated_after: The same after compression, room for the answer included.
        compress_bytes_peak: Memory that compression itself needed at most.
        encode_seconds: Time of the vision encoder.
        prefill_seconds: Time of the language model over the prompt.
        score_seconds: Time of taking the attention scores.
        compress_seconds: Time of selecting, merging and packing.
        move_seconds: Time of giving memory back, which moves the kept cells to smaller buffers.
        decode_seconds: Time of the answer's tokens.
        encode_images: Images of the prompt.
        decode_tokens: Tokens of the answer.
    """

    prompt_cells: int = 0
    text_cells: int = 0
    image_cells: int = 0
    context_cells: int = 0
    squeezed_cells: int = 0
    kept_cells: int = 0
    kept_text_cells: int = 0
    kept_image_cells: int = 0
    kept_context_cells: int = 0
    kv_ratio: float = 0.0
    method: str = ""
    note: str = ""
    kv_bytes_used_before: int = 0
    kv_bytes_used_after: int = 0
    kv_bytes_allocated_before: int = 0
    kv_bytes_allocated_after: int = 0
    compress_bytes_peak: int = 0
    encode_seconds: float = 0.0
    prefill_seconds: float = 0.0
    score_seconds: float = 0.0
    compress_seconds: float = 0.0
    move_seconds: float = 0.0
    decode_seconds: float = 0.0
    encode_images: int = 0
    decode_tokens: int = 0

    @property
    def encode_tokens_per_second(self) -> float:
        """Image cells a second of the vision encoder; 0 when it did not run."""
        return _rate(self.image_cells, self.encode_seconds)

    @property
    def prefill_tokens_per_second(self) -> float:
        """Prompt cells a second of prefill."""
        return _rate(self.prompt_cells, self.prefill_seconds)

    @property
    def score_tokens_per_second(self) -> float:
        """Prompt cells a second of taking scores; 0 when none were taken."""
        return _rate(self.prompt_cells, self.score_seconds)

    @property
    def compress_tokens_per_second(self) -> float:
        """Prompt cells a second of compression; 0 when nothing was compressed."""
        return _rate(self.prompt_cells, self.compress_seconds)

    @property
    def decode_tokens_per_second(self) -> float:
        """Answer tokens a second; 0 before the first."""
        return _rate(self.decode_tokens, self.decode_seconds)

    def as_dict(self) -> dict[str, int | float | str]:
        """Every field and every rate by name, ready for JSON."""
        rates = {
            f"{name}_tokens_per_second": getattr(self, f"{name}_tokens_per_second")
            for name in RATES
        }
        return {**asdict(self), **rates}
