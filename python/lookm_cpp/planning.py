"""Whether a prompt about images will fit into memory, before any weight is loaded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from PIL import Image

from lookm_cpp import _core
from lookm_cpp.brief import brief
from lookm_cpp.chat import PLACEHOLDER, question_messages
from lookm_cpp.compression import METHOD, Compression
from lookm_cpp.file_check import CHECK_FILES, check_model_files
from lookm_cpp.files import existing_file, find_mmproj
from lookm_cpp.images import MAX_PIXELS, pixel_limit
from lookm_cpp.messages import template_input
from lookm_cpp.sizes import byte_count, cell_count, index, long_whole, whole
from lookm_cpp.templates import template_text
from lookm_cpp.words import flag, flash_attention, word, word_or_none

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lookm_cpp._core import MemoryPlan
    from lookm_cpp.options import CompressionOverrides

QUESTION = "What do these images show?"
IMAGE_SIZE = (1024, 768)


def plan(
    model_path: str | os.PathLike[str],
    *,
    images: int,
    mmproj: str | os.PathLike[str] | None = None,
    chat_template: str | os.PathLike[str] | None = None,
    image_size: tuple[int, int] = IMAGE_SIZE,
    question: str = QUESTION,
    system: str | None = None,
    max_tokens: int = 512,
    memory: int | str | None = None,
    kv_cells: int | None = None,
    kv_memory: int | str | None = None,
    n_ctx: int = 0,
    n_batch: int = 2048,
    n_ubatch: int = 512,
    n_gpu_layers: int = -1,
    flash_attn: bool | Literal["auto"] = "auto",
    type_k: str = "f16",
    type_v: str = "f16",
    kept_type_k: str | None = None,
    kept_type_v: str | None = None,
    compute_bytes: int = 64 << 20,
    shrink: bool = True,
    max_pixels: int = MAX_PIXELS,
    check_files: bool = CHECK_FILES,
    verbose: bool = False,
    **compression: Unpack[CompressionOverrides],
) -> MemoryPlan:
    """Say what memory ``Llava`` would take for a question about images, from the files' headers alone.

    llama.cpp and its image library are asked to cut and count the images and to size all buffers as for a real run, but
    nothing is read into them. The prompt's last stage is taken at its longest: ``max_tokens`` of answer.

    Args:
        model_path: The GGUF language model.
        images: How many images the prompt has, all of one size.
        mmproj: The GGUF projector; unless given, the one ``mmproj*.gguf`` beside the model.
        chat_template: As of ``Llava``.
        image_size: ``(width, height)`` of an image in pixels.
        question: What comes after the images; all of it counts as text.
        system: A system message before it.
        max_tokens: Cells for the answer.
        memory: What there is, in bytes or as ``"8GiB"``; unless given, all memory that this machine's devices report.
        kv_cells: Most cells that the cache may have while the prompt is read.
        kv_memory: The same in bytes, or as ``"512MiB"``; one of both, as of ``Llava``.
        n_ctx: As of ``Llava``, as all that follow.
        n_batch: Tokens handed to llama.cpp at once.
        n_ubatch: Tokens computed at once.
        n_gpu_layers: Layers on the accelerator; bytes on all devices are added up.
        flash_attn: ``True``, ``False`` or ``"auto"``.
        type_k: Type of the K cache.
        type_v: Type of the V cache.
        kept_type_k: Type that K is kept in once the prompt is read.
        kept_type_v: The same for V.
        compute_bytes: What scoring and compression may take.
        shrink: Contexts by need, or one of ``n_ctx`` cells.
        max_pixels: Most pixels of an image that a run would take.
        check_files: As of ``Llava``.
        verbose: Let llama.cpp write its log to stderr.
        **compression: ``kv_ratio`` and the other options of a compression.

    Returns:
        A dict of counts in cells and sizes in bytes. ``preparing``, ``reading`` and ``answering`` are the stages, each
        with its parts and their ``total``; ``peak_bytes`` is the largest total. ``scratch_bytes`` bounds what scoring
        and compression take for a moment; ``fits`` and ``most_images``, the largest number of such images that fits
        into memory and ``n_ctx``, leave room for it. Not counted: Python and libraries themselves.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: An argument is outside its range, or as of ``Llava``.

    >>> from lookm_cpp.embedded import MMPROJ, MODEL
    >>> found = plan(MODEL, mmproj=MMPROJ, images=20, kv_ratio=0.5, memory="1GiB")
    >>> found["cells_per_image"], found["fits"], found["kv_bytes_kept"] < found["kv_bytes_full"]
    (64, True, True)
    """
    how = Compression(kv_ratio=1.0, method=METHOD).override(**compression)
    size = _checked_size(image_size, pixel_limit("max_pixels", max_pixels))
    if PLACEHOLDER in word("question", question):
        raise ValueError(f"question is {question!r:.80}, expected a text without {PLACEHOLDER}: images come before it")
    model = existing_file(model_path, "model_path")
    projector = find_mmproj(model) if mmproj is None else existing_file(mmproj, "mmproj")
    if flag("check_files", check_files):
        check_model_files(model, projector)
    planner = _core.Planner(
        str(model),
        str(projector),
        n_ctx=whole("n_ctx", n_ctx),
        n_batch=whole("n_batch", n_batch),
        n_ubatch=whole("n_ubatch", n_ubatch),
        n_gpu_layers=whole("n_gpu_layers", n_gpu_layers),
        flash_attn=flash_attention(flash_attn),
        type_k=word("type_k", type_k),
        type_v=word("type_v", type_v),
        kept_type_k=word_or_none("kept_type_k", kept_type_k),
        kept_type_v=word_or_none("kept_type_v", kept_type_v),
        verbose=flag("verbose", verbose),
        compute_bytes=long_whole("compute_bytes", compute_bytes),
        scored=how.scores_all_queries(),
        shrink=flag("shrink", shrink),
        chat_template=template_text(chat_template),
        kv_cells=cell_count("kv_cells", kv_cells),
        kv_memory=byte_count("kv_memory", kv_memory),
    )
    markers = (planner.media_marker, planner.context_marker)
    image = Image.new("RGB", (1, 1))
    one, two = (template_input(question_messages(question, [image] * n, (), system), *markers) for n in (1, 2))
    return planner.plan(
        planner.apply_template(one.messages),
        planner.apply_template(two.messages),
        size,
        n_images=whole("images", images),
        kv_ratio=how.kv_ratio,
        method=how.method,
        important_ratio=how.important_ratio,
        recent_ratio=how.recent_ratio,
        options=how.method_options(0),
        n_answer=whole("max_tokens", max_tokens),
        memory=byte_count("memory", memory),
    )


def _checked_size(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    try:
        width, height = (index("image_size", side) for side in size)
    except (TypeError, ValueError):
        raise ValueError(f"image_size is {brief(size)}, expected two whole numbers, width and height") from None
    if width < 1 or height < 1 or width * height > max_pixels:
        raise ValueError(
            f"image_size is {width}x{height}, expected WxH of 1 to {max_pixels} pixels in all (max_pixels)"
        )
    return width, height
