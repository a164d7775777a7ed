"""The C++ extension module: sessions on llama.cpp, and single-layer functions on NumPy arrays.

Python checks types and file names; everything else is checked, computed and named here. A bad
argument raises ``ValueError`` whose text names the argument, its value and what was expected, a
file that is not what it should be among them; a failure of llama.cpp or of memory raises
``RuntimeError``. Every call that computes releases the GIL.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypedDict, type_check_only

import numpy as np
import numpy.typing as npt

__version__: str
llama_cpp_version: str

_Image: TypeAlias = npt.NDArray[np.uint8] | Callable[[], npt.NDArray[np.uint8]]

@type_check_only
class Stats(TypedDict):
    """What happened to the last prompt. Counts are cells, sizes bytes, times seconds."""

    prompt_cells: int
    text_cells: int
    image_cells: int
    context_cells: int
    squeezed_cells: int
    kept_cells: int
    kept_text_cells: int
    kept_image_cells: int
    kept_context_cells: int
    kv_ratio: float
    method: str
    note: str
    kv_bytes_used_before: int
    kv_bytes_used_after: int
    kv_bytes_allocated_before: int
    kv_bytes_allocated_after: int
    compress_bytes_peak: int
    encode_seconds: float
    prefill_seconds: float
    score_seconds: float
    compress_seconds: float
    move_seconds: float
    decode_seconds: float
    encode_images: int
    decode_tokens: int

@type_check_only
class ExplainedPiece(TypedDict):
    """A piece of an image; as in ``lookm_cpp.explaining.Piece``."""

    image: int
    tile: bool
    area: tuple[float, float, float, float] | None
    nx: int
    ny: int

@type_check_only
class ExplainedLayer(TypedDict):
    """One layer's cells, each ``[n_head_kv, n]``; as in ``lookm_cpp.explaining.LayerCells``."""

    il: int
    kept: npt.NDArray[np.int32]
    merged_into: npt.NDArray[np.int32]
    score: npt.NDArray[np.float32]

@type_check_only
class Explanation(TypedDict):
    """The last prompt, cell by cell: ``is_text``, ``piece`` (of ``pieces``; -1: text), ``text`` are
    ``[n_cells]``, and
    ``place`` is ``[n_cells, 2]``: column and row, or -1. ``layers`` is empty where nothing was
    compressed."""

    is_text: npt.NDArray[np.bool_]
    piece: npt.NDArray[np.int32]
    place: npt.NDArray[np.int32]
    text: list[bytes]
    pieces: list[ExplainedPiece]
    layers: list[ExplainedLayer]

@type_check_only
class StageBytes(TypedDict):
    """What a session holds at one time, in bytes."""

    weights: int
    encoder_weights: int
    encoder_compute: int
    kv: int
    compute: int
    scores: int
    moving: int
    pictures: int
    total: int

@type_check_only
class MemoryPlan(TypedDict):
    """What a prompt about images will take. Counts are cells, sizes bytes."""

    images: int
    tiles_per_image: int
    cells_per_image: int
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

@type_check_only
class ModelInfo(TypedDict):
    """What a GGUF file holds, as far as KV compression cares."""

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

@type_check_only
class DeviceInfo(TypedDict):
    """A device that can hold a KV cache. Sizes are bytes."""

    name: str
    description: str
    type: str
    memory_free: int
    memory_total: int
    on_device: bool
    note: str

def chat_templates() -> list[str]:
    """Names of the chat templates that llama.cpp has built in."""

@type_check_only
class MethodDefaults(TypedDict):
    """What a method is unless a compression says otherwise. ``window`` ``None``: the text after the
    last image;
    ``recent_share``: of a ``kv_ratio`` that is not split."""

    scorer: str
    window: int | None
    text_overflow: str
    visual_quota: float
    recent_share: float

def methods() -> dict[str, MethodDefaults]:
    """The compression methods by name, ``origin`` (none) first."""

class Compression:
    """How a prompt is compressed; fields and defaults as of ``lookm_cpp.Compression``.

    A field of another type raises ``ValueError``; whether a value makes sense is checked where it
    is used.
    """

    def __init__(self, **fields: Any) -> None: ...
    @property
    def kv_ratio(self) -> float: ...
    @property
    def method(self) -> str: ...
    @property
    def important_ratio(self) -> float | None: ...
    @property
    def recent_ratio(self) -> float | None: ...
    @property
    def text_overflow(self) -> str | None: ...
    @property
    def fidelity(self) -> str: ...
    @property
    def scorer(self) -> str | None: ...
    @property
    def window(self) -> int | None: ...
    @property
    def merge_keys(self) -> bool: ...
    @property
    def merge_within_modality(self) -> bool: ...
    @property
    def visual_quota(self) -> float | None: ...
    @property
    def seed(self) -> int:
        """Of the method ``random``."""

class ModelOptions:
    """How a model is opened, with the core's defaults; as ``Compression`` checked by type. Meanings
    are in
    ``model_options.h``, and in ``Llava`` of what it passes on."""

    def __init__(self, **fields: Any) -> None: ...
    def __getattr__(self, name: str) -> Any: ...

def parse_bytes(text: str) -> int | None:
    """Bytes as users write them, ``"512MiB"`` or ``"1.5 G"``; ``None`` for other text, less than 1,
    or too many.
    """

def scores_all_queries(compression: Compression) -> bool:
    """Whether prompts compressed like this are scored by all their queries. Raises ``ValueError``
    for an option that is
    wrong."""

def model_info(model_path: str, type_k: str = "f16", type_v: str = "f16") -> ModelInfo:
    """Describe a model file; loads its weights by mmap and makes a minimal context."""

def check_files(model_path: str, mmproj_path: str, command: Sequence[str]) -> None:
    """Try files that were not found good before in a child process, ``command`` with paths and a
    pipe behind it.
    """

def file_doubts(parts: list[str]) -> list[str]: ...
def model_parts(model_path: str) -> list[str]:
    """The files that llama.cpp reads when it is given this one: the parts of a split model, or the
    file alone.
    """

def try_files(model_path: str, mmproj_path: str, pipe: int) -> None:
    """What the child does: writes on the pipe how it goes, and ends the process."""

def devices(rpc_servers: str = "", type_k: str = "f16", type_v: str = "f16") -> list[DeviceInfo]:
    """The CPU, the RPC servers' devices and the accelerators. ``type`` is CPU, GPU, IGPU or RPC;
    ``on_device``: it can
    run every node of the graphs that compress caches of these types; ``note``: the op it lacks, or
    a remark."""

class Session:
    """One model, one multimodal projector, one conversation."""

    def __init__(
        self,
        options: ModelOptions,
        compression: Compression | None = None,
        *,
        weights_of: Session | None = None,
    ) -> None:
        """``compression``: of the prompts to come, where it is known: ``flash_attn="auto"`` takes
        it into account, and what is wrong with it, or with this model for it, is a ``ValueError``
        now. ``weights_of``: of the same file; how
        it was loaded holds for both."""

    @property
    def flash_attn(self) -> str:
        """As given, or ``off`` where ``auto`` means that here."""

    @property
    def media_marker(self) -> str:
        """Stands for one image in a prompt; random for each session, so that no user text can hold
        it.
        """

    @property
    def context_marker(self) -> str:
        """Stands for one context in a prompt, as ``media_marker`` for an image."""

    @property
    def n_ctx(self) -> int: ...
    @property
    def kv_cells(self) -> int:
        """Most cells in use at once, 0: any number."""

    @property
    def model_name(self) -> str: ...
    def apply_template(self, messages: str) -> str:
        """Prompt of OpenAI-style ``messages`` (JSON text; content a string, or parts of type
        ``text`` and ``media_marker``) by the chat template, ending where the assistant's answer
        begins. Raises ``ValueError`` as
        ``check_template`` does, too."""

    def check_template(self) -> None:
        """Raise ``ValueError`` if neither ``chat_template`` was given nor the GGUF has one."""

    def check(self, compression: Compression) -> None:
        """Raise ``ValueError`` for an option that is wrong, or where this model cannot be
        compressed.
        """

    def prefill(
        self,
        prompt: str,
        images: Sequence[_Image],
        compression: Compression,
        *,
        contexts: list[str] = ...,
        n_answer: int = 0,
        progress: Callable[[str, int, int], None] | None = None,
        explain: bool = False,
    ) -> None:
        """Forget the last prompt, process this one, compress its KV cache, and free what it and
        ``n_answer`` more cells do not need (unless ``shrink`` is off). The answer may be longer, up
        to ``n_ctx`` cells, or without end under a cap (``kv_cells``, ``kv_memory``), through which
        longer prompts are read, too.

        ``images``: RGB, ``[height, width, 3]``, one for each ``media_marker`` in ``prompt``; or
        functions that return them, each called when its image's turn comes, and maybe again.
        ``contexts``: texts, one for each ``context_marker``; their cells are evicted as an image's
        are, and control tokens in them are only text. ``progress(phase, done, total)`` is called
        between steps, phase one of ``encode`` (images, or the tiles a model cuts them into),
        ``prefill`` (cells), ``compress`` (layers); an exception it raises stops the work and passes
        through. Signals are looked at between steps too.
        """

    def converse(
        self,
        prompt: str,
        images: Sequence[_Image],
        compression: Compression,
        *,
        contexts: list[str] = ...,
        n_answer: int = 0,
        progress: Callable[[str, int, int], None] | None = None,
        explain: bool = False,
    ) -> None:
        """``prefill`` after what is there: the first call begins a conversation, each later one
        goes on after the last answer, with the template's text from that answer's end on. Then
        evictable parts of all turns shrink, the oldest first, to ``kv_ratio`` of all cells so far.
        Raises ``ValueError`` and leaves the conversation as it is
        where something is wrong before anything is read."""

    def converse_anew(
        self,
        prompt: str,
        images: Sequence[_Image],
        compression: Compression,
        *,
        contexts: list[str] = ...,
        n_answer: int = 0,
        progress: Callable[[str, int, int], None] | None = None,
        explain: bool = False,
    ) -> None:
        """``converse``, which begins a conversation in any case."""

    @property
    def talking(self) -> bool:
        """Whether a conversation is there; one is lost when an error stops its reading."""

    @property
    def epoch(self) -> int:
        """Another number whenever what was there is forgotten; what is refused before leaves it as
        it is.
        """

    def state(self) -> bytes:
        """The conversation between two turns, for ``restore``; ``ValueError`` without one."""

    def restore(self, state: bytes, compression: Compression) -> None:
        """Take up a conversation; ``ValueError`` for a state of another model or other types of
        cache.
        """

    @staticmethod
    def check_sampling(
        *,
        temperature: float,
        top_p: float,
        top_k: int,
        min_p: float,
        repeat_penalty: float,
        frequency_penalty: float,
        presence_penalty: float,
        seed: int,
    ) -> None:
        """``ValueError`` for what ``start`` would refuse."""

    def start(
        self,
        *,
        temperature: float = 0.2,
        top_p: float = 0.95,
        top_k: int = 40,
        min_p: float = 0.05,
        repeat_penalty: float = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        seed: int = 0xFFFFFFFF,
        ignore_eos: bool = False,
    ) -> None:
        """Begin an answer to the last prompt with this sampler; ``temperature=0`` is greedy. With
        ``ignore_eos`` no
        token ends it."""

    def next(self) -> bytes | None:
        """Sample and decode one token; its text as bytes (may be half a UTF-8 character), ``None``
        at the end of the
        answer. Raises ``RuntimeError`` when the context is full (see ``can_continue``)."""

    def read(
        self,
        prompt: str,
        images: Sequence[_Image],
        compression: Compression,
        *,
        contexts: list[str] = ...,
        n_answer: int = 0,
        progress: Callable[[str, int, int], None] | None = None,
        explain: bool = False,
    ) -> None:
        """As ``prefill``, but every cell stays, and a copy of all is kept for trials. The prompt
        may end with an image,
        where ``follow`` adds what is to be answered. The method says which attention is observed.
        """

    def trial(self, compression: Compression) -> None:
        """The cells as they were read, compressed like this, whatever a trial before has made of
        them. Raises
        ``ValueError`` where it takes attention that was not observed."""

    def follow(self, text: str) -> None:
        """Text behind the compressed prompt, uncompressed, in the place of all that came behind it
        since ``trial``.
        """

    def tokens_of(self, text: str) -> list[int]:
        """Tokens of a text, without those that begin or end a prompt; control tokens are only text."""

    def text_of(self, tokens: list[int]) -> bytes:
        """Text of tokens, as UTF-8 that may be cut within a character."""

    @property
    def can_continue(self) -> bool:
        """Whether a free cell is left for another token."""

    @property
    def stats(self) -> Stats: ...
    @property
    def explanation(self) -> Explanation | None:
        """What became of the last prompt's cells; ``None`` unless it was read with
        ``explain=True``.
        """

    def close(self) -> None:
        """Free model and caches; any later call raises ``ValueError``."""

def scores(
    q: npt.NDArray[np.float32],
    k: npt.NDArray[Any],
    scale: float,
    n_past: int = 0,
    on_device: bool = False,
) -> npt.NDArray[np.float32]:
    """Column sums of softmax(scale * q @ k^T) under a causal mask, mean over each group's query
    heads.

    ``q``: ``[n_head, n_tokens, head_dim]`` f32; ``k``: ``[n_head_kv, n_kv, head_dim]`` f32 or f16;
    query i sees cells ``0..n_past+i``. ``on_device`` takes the graph that accelerators run instead
    of the CPU's own loop. Returns ``[n_head_kv, n_kv]`` f32.
    """

def first_query(
    is_text: npt.NDArray[np.bool_],
    compression: Compression,
) -> int:
    """``is_text [n_kv]`` -> index of the first query whose attention counts; 0 unless the scorer is
    a window.
    """

def select(
    scores: npt.NDArray[np.float32],
    is_text: npt.NDArray[np.bool_],
    compression: Compression,
    *,
    squares: npt.NDArray[np.float32] | None = None,
    layer: int = 0,
) -> npt.NDArray[np.int32]:
    """``scores``, ``squares [n_head_kv, n_kv]``, ``is_text [n_kv]`` -> ``kept [n_head_kv,
    n_keep]``, ascending.
    """

def compress(
    k: npt.NDArray[Any],
    v: npt.NDArray[Any],
    scores: npt.NDArray[np.float32],
    is_text: npt.NDArray[np.bool_],
    compression: Compression,
    *,
    squares: npt.NDArray[np.float32] | None = None,
    layer: int = 0,
    on_device: bool = False,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """One layer: ``k [n_head_kv, n_kv, head_dim_k]``, ``v [n_head_kv, n_kv, head_dim_v]``, f32 or
    f16 alike.

    Returns ``(k, v, kept, merged_into)``: rows ``[n_head_kv, n_keep, head_dim]`` in the input's
    type, ``kept [n_head_kv, n_keep]`` ascending, ``merged_into [n_head_kv, n_kv]``: for an evicted
    cell the kept cell (an index into ``n_kv``) it was merged into, -1 for kept cells and those that
    are dropped. ``on_device`` merges by the graph that accelerators run instead of the host's
    scatter-add; both agree to rounding.
    """

class Planner:
    """A model and its projector without their weights, to learn what memory a session would take.

    Options as of ``Session``; bytes are those of all devices together.
    """

    def __init__(self, options: ModelOptions, compression: Compression) -> None: ...
    @property
    def media_marker(self) -> str: ...
    @property
    def context_marker(self) -> str: ...
    def apply_template(self, messages: str) -> str:
        """As of ``Session``."""
    def plan(
        self,
        one: str,
        two: str,
        image_size: tuple[int, int],
        compression: Compression,
        *,
        n_images: int,
        n_answer: int = 0,
        memory: int = 0,
    ) -> MemoryPlan:
        """``one``, ``two``: formatted prompts with one image marker and with two. ``image_size``:
        width and height. ``memory`` 0: all that the devices report.
        """
