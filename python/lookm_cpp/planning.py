"""Whether a prompt about images will fit into memory, without loading any weights."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from PIL import Image

from lookm_cpp import _core
from lookm_cpp.brief import brief
from lookm_cpp.chat import PLACEHOLDER, question_messages
from lookm_cpp.compression import Compression, compression_of
from lookm_cpp.file_check import CHECK_FILES, check_model_files
from lookm_cpp.files import existing_file, find_mmproj
from lookm_cpp.images import MAX_PIXELS, pixel_limit
from lookm_cpp.messages import template_input
from lookm_cpp.opening import model_options
from lookm_cpp.sizes import byte_count, index, whole
from lookm_cpp.words import flag, word

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lookm_cpp.info_types import MemoryPlan
    from lookm_cpp.options import LlavaOptions

QUESTION = "What do these images show?"
IMAGE_SIZE = (1024, 768)


def plan(
    model_path: str | os.PathLike[str],
    *,
    images: int,
    mmproj: str | os.PathLike[str] | None = None,
    image_size: tuple[int, int] = IMAGE_SIZE,
    question: str = QUESTION,
    system: str | None = None,
    max_tokens: int = 512,
    memory: int | str | None = None,
    **options: Unpack[LlavaOptions],
) -> MemoryPlan:
    """Say how much memory a question about images would take, from the headers of the files.

    llama.cpp and its image library count the images' cells and size all buffers as in a real run,
    but nothing is loaded into them. The answer is taken to have ``max_tokens``.

    Args:
        model_path: The GGUF language model.
        images: Number of images in the prompt, all of one size.
        mmproj: The GGUF projector. Default: the only ``mmproj*.gguf`` in the model's folder.
        image_size: ``(width, height)`` of each image in pixels.
        question: The text after the images.
        system: A system message before the images.
        max_tokens: Cells for the answer.
        memory: Available memory, in bytes or as ``"8GiB"``. Default: all memory that this machine's
            devices report.
        **options: As for ``Llava``. Bytes are the sum over all devices.

    Returns:
        A dict of counts in cells and sizes in bytes. ``preparing``, ``reading`` and ``answering``
        are the stages, each with its parts and their ``total``; ``peak_bytes`` is the largest
        total. ``scratch_bytes`` is an upper bound of what scoring and compression take for a
        moment. ``fits`` says whether the prompt fits into ``memory``, and ``most_images`` how many
        such images fit into it and into ``n_ctx``; both include ``scratch_bytes``. Python itself
        and libraries are not counted.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: An argument is out of range, or as for ``Llava``.

    >>> from lookm_cpp.embedded import MMPROJ, MODEL
    >>> found = plan(MODEL, mmproj=MMPROJ, images=20, kv_ratio=0.5, memory="1GiB")
    >>> found["cells_per_image"], found["fits"], found["kv_bytes_kept"] < found["kv_bytes_full"]
    (64, True, True)
    """
    given: dict[str, Any] = {**options}
    how = compression_of(Compression(), given).core()
    size = _checked_size(image_size, pixel_limit("max_pixels", given.pop("max_pixels", MAX_PIXELS)))
    given.pop("seed", None)  # changes answers, not memory
    checks = flag("check_files", given.pop("check_files", CHECK_FILES))
    if PLACEHOLDER in word("question", question):
        raise ValueError(
            f"question is {question!r:.80}, expected text without {PLACEHOLDER}: "
            "images come before it"
        )
    model = existing_file(model_path, "model_path")
    projector = find_mmproj(model) if mmproj is None else existing_file(mmproj, "mmproj")
    opened = model_options(model, projector, **given)
    if checks:
        check_model_files(model, projector)
    planner = _core.Planner(opened)
    markers = (planner.media_marker, planner.context_marker)
    image = Image.new("RGB", (1, 1))
    one, two = (
        template_input(question_messages(question, [image] * n, (), system), *markers)
        for n in (1, 2)
    )
    return planner.plan(
        planner.apply_template(one.messages),
        planner.apply_template(two.messages),
        size,
        how,
        n_images=whole("images", images),
        n_answer=whole("max_tokens", max_tokens),
        memory=byte_count("memory", memory),
    )


def _checked_size(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    try:
        width, height = (index("image_size", side) for side in size)
    except (TypeError, ValueError):
        raise ValueError(
            f"image_size is {brief(size)}, expected two whole numbers, width and height"
        ) from None
    if width < 1 or height < 1 or width * height > max_pixels:
        raise ValueError(
            f"image_size is {width}x{height}, expected WxH of 1 to {max_pixels} pixels in total "
            "(max_pixels)"
        )
    return width, height
