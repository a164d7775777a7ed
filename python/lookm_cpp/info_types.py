"""The dicts that ``plan()``, ``model_info()``, ``devices()`` and ``methods()`` return.

The extension module makes them; here are their keys.
"""

from __future__ import annotations

from typing import TypedDict


class StageBytes(TypedDict):
    """The memory of a session at one time, in bytes over all devices.

    Attributes:
        weights: Weights of the language model.
        encoder_weights: Weights of the image encoder.
        encoder_compute: Compute buffers of the image encoder.
        kv: KV cache.
        compute: Compute buffers of the language model.
        scores: Attention sums: one number for each cell, layer and KV head, two for ``roco``.
        moving: Copy of the kept cells while they move to their own cache.
        pictures: Images as prepared for the encoder. While they are prepared, also the one at
            hand at full size.
        total: Sum of all parts.
    """

    weights: int
    encoder_weights: int
    encoder_compute: int
    kv: int
    compute: int
    scores: int
    moving: int
    pictures: int
    total: int


class MemoryPlan(TypedDict):
    """The memory that a prompt about images will take.

    Attributes:
        images: Number of images in the prompt.
        tiles_per_image: Number of pieces that the encoder cuts each image into.
        cells_per_image: Cells of each image that the language model reads.
        encoded_cells_per_image: Cells of each image that the vision encoder makes.
        marks_per_image: Cells of text that come with each image.
        prompt_cells: Cells of the prompt.
        text_cells: Of these, cells of text.
        kept_cells: Cells left after compression.
        n_ctx: Maximum number of cells for a prompt and its answer. The planned prompt may have
            more.
        kv_bytes_full: KV bytes of all cells of the prompt.
        kv_bytes_kept: KV bytes of the kept cells.
        kv_bytes_capped: KV bytes under the cap; ``None`` without one.
        preparing: Memory while the images are decoded and scaled.
        reading: Memory while the prompt is read and compressed.
        answering: Memory after that.
        peak_bytes: The largest total of the three stages.
        scratch_bytes: Upper bound of what scoring and compression take for a moment while the
            prompt is read. Not part of ``reading``.
        memory_bytes: Available memory.
        fits: Whether the prompt fits into the available memory, ``scratch_bytes`` included.
        most_images: Maximum number of such images that fit into memory and ``n_ctx``.
        most_images_in_n_ctx: Maximum number of such images that fit into ``n_ctx``.
    """

    images: int
    tiles_per_image: int
    cells_per_image: int
    encoded_cells_per_image: int
    marks_per_image: int
    prompt_cells: int
    text_cells: int
    kept_cells: int
    n_ctx: int
    kv_bytes_full: int
    kv_bytes_kept: int
    kv_bytes_capped: int | None
    preparing: StageBytes
    reading: StageBytes
    answering: StageBytes
    peak_bytes: int
    scratch_bytes: int
    memory_bytes: int
    fits: bool
    most_images: int
    most_images_in_n_ctx: int


class ModelInfo(TypedDict):
    """What a GGUF file contains, with regard to KV compression.

    Attributes:
        architecture: Architecture by llama.cpp's name.
        name: The name that the file states, if any.
        size_bytes: Size of the weights.
        n_params: Number of parameters.
        n_ctx_train: Context length that the model was trained with.
        n_layer: Number of layers.
        n_head: Number of query heads in a layer.
        n_head_kv: Number of KV heads in a layer.
        memory_type: Kind of its KV cache.
        kv_bytes_per_token: KV bytes of a token, in the layers that see all earlier tokens.
        supported: Whether its KV cache can be compressed.
        reason: Why not; empty if it can.
    """

    architecture: str
    name: str
    size_bytes: int
    n_params: int
    n_ctx_train: int
    n_layer: int
    n_head: int
    n_head_kv: int
    memory_type: str
    kv_bytes_per_token: int
    supported: bool
    reason: str


class DeviceInfo(TypedDict):
    """A device that can hold a KV cache.

    Attributes:
        name: Its name in llama.cpp.
        description: What it is.
        type: CPU, GPU, IGPU or RPC.
        memory_free: Free memory in bytes.
        memory_total: Total memory in bytes.
        on_device: Whether it runs every node of the graphs that score and merge.
        note: The operation that it lacks, or a remark.
    """

    name: str
    description: str
    type: str
    memory_free: int
    memory_total: int
    on_device: bool
    note: str


class MethodDefaults(TypedDict):
    """What a method does if a ``Compression`` does not set it.

    Attributes:
        scorer: Whose attention is added up.
        window: Number of last queries for the scorer ``window``; ``None`` for the text after the
            last image.
        text_overflow: What happens to text beyond the budget.
        visual_quota: Minimum fraction of the important cells reserved for images.
        recent_share: Fraction of ``kv_ratio`` that goes to the last cells.
    """

    scorer: str
    window: int | None
    text_overflow: str
    visual_quota: float
    recent_share: float
