"""Statistics of the last prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

RATES = ("encode", "prefill", "score", "compress", "decode")


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


@dataclass(frozen=True)
class Stats:
    """Cells, bytes and times of one prompt and its answer.

    A cell holds one token of text or of an image in the KV cache.

    Attributes:
        prompt_cells: Cells of the prompt.
        text_cells: Of these, cells of text, including the chat template but not contexts.
        image_cells: Of these, cells of images.
        encoded_cells: Cells that the vision encoder makes of the images. Pruning leaves
            ``image_cells`` of them to be read.
        context_cells: Of these, cells of contexts: text that may be evicted like an image.
        reused_cells: Cells that were not read, because an earlier prompt began with them.
        reused_image_cells: Cells of images that were not encoded again, whether they were read or
            not.
        squeezed_cells: Cells evicted while the prompt was read, so that it fits into ``kv_cells``.
            In a conversation, also those of earlier answers.
        kept_cells: Cells left after compression, the same number in every layer and head.
        kept_text_cells: Of these, cells of text: the mean over layers and heads, because each keeps
            cells of its own.
        kept_image_cells: Of these, cells of images; also a mean.
        kept_context_cells: Of these, cells of contexts; also a mean.
        kv_ratio: Fraction that was really kept, ``kept_cells / prompt_cells``.
        chosen_ratio: With ``kv_ratio="auto"``, the ratio that was chosen; asked for as a fixed
            ``kv_ratio``, it gives the same answer. ``None`` with a fixed ratio, and where nothing
            could be evicted.
        attention_held: Share of the attention to the prompt that the kept cells hold: the mean over
            layers and KV heads of the sum of the kept cells' scores, before any averaging over
            neighbours, divided by the sum of all cells' scores. ``None`` if nothing was evicted, if
            the method observes no attention, and if only the last queries count and there is no
            question after the last image.
        method: The method that ran.
        note: Why nothing was compressed, or which of text, images and contexts kept less than a
            tenth of an even share of the kept cells. Otherwise empty.
        kv_bytes_used_before: Bytes of the cells in use before compression.
        kv_bytes_used_after: Bytes of the cells in use after compression.
        kv_bytes_allocated_before: Bytes of the KV buffers before compression.
        kv_bytes_allocated_after: Bytes of the KV buffers after it, including space for the answer.
        compress_bytes_peak: Peak memory of the compression itself.
        encode_seconds: Time of the vision encoder.
        prune_seconds: Time of choosing the cells of images to read.
        prefill_seconds: Time of the language model over the prompt.
        score_seconds: Time of adding up attention scores.
        compress_seconds: Time of selecting, merging and packing.
        move_seconds: Time of moving the kept cells to smaller buffers.
        decode_seconds: Time of the answer's tokens.
        encode_images: Number of images in the prompt.
        decode_tokens: Number of tokens in the answer.
    """

    prompt_cells: int = 0
    text_cells: int = 0
    image_cells: int = 0
    encoded_cells: int = 0
    context_cells: int = 0
    reused_cells: int = 0
    reused_image_cells: int = 0
    squeezed_cells: int = 0
    kept_cells: int = 0
    kept_text_cells: int = 0
    kept_image_cells: int = 0
    kept_context_cells: int = 0
    kv_ratio: float = 0.0
    chosen_ratio: float | None = None
    attention_held: float | None = None
    method: str = ""
    note: str = ""
    kv_bytes_used_before: int = 0
    kv_bytes_used_after: int = 0
    kv_bytes_allocated_before: int = 0
    kv_bytes_allocated_after: int = 0
    compress_bytes_peak: int = 0
    encode_seconds: float = 0.0
    prune_seconds: float = 0.0
    prefill_seconds: float = 0.0
    score_seconds: float = 0.0
    compress_seconds: float = 0.0
    move_seconds: float = 0.0
    decode_seconds: float = 0.0
    encode_images: int = 0
    decode_tokens: int = 0

    @property
    def encode_tokens_per_second(self) -> float:
        """Image cells per second of the vision encoder; 0 if it did not run."""
        return _rate(self.encoded_cells - self.reused_image_cells, self.encode_seconds)

    @property
    def prefill_tokens_per_second(self) -> float:
        """Prompt cells that were read, per second of prefill."""
        return _rate(self.prompt_cells - self.reused_cells, self.prefill_seconds)

    @property
    def score_tokens_per_second(self) -> float:
        """Prompt cells per second of scoring; 0 if nothing was scored."""
        return _rate(self.prompt_cells, self.score_seconds)

    @property
    def compress_tokens_per_second(self) -> float:
        """Prompt cells per second of compression; 0 if nothing was compressed."""
        return _rate(self.prompt_cells, self.compress_seconds)

    @property
    def decode_tokens_per_second(self) -> float:
        """Answer tokens per second; 0 before the first."""
        return _rate(self.decode_tokens, self.decode_seconds)

    def as_dict(self) -> dict[str, int | float | str | None]:
        """All fields and rates by name, ready for JSON."""
        rates = {
            f"{name}_tokens_per_second": getattr(self, f"{name}_tokens_per_second")
            for name in RATES
        }
        return {**asdict(self), **rates}

    @classmethod
    def of_dict(cls, found: Mapping[str, Any]) -> Stats:
        """What ``as_dict`` has given."""
        return cls(**{field.name: found[field.name] for field in fields(cls)})
