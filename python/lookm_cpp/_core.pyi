"""The C++ extension module: sessions on llama.cpp, and single-layer functions on NumPy arrays.

Python checks types and file names; C++ checks and computes everything else. A bad argument, an
unusable file included, raises ``ValueError`` with the argument's name, its value and what was
expected. A failure of llama.cpp or of memory raises ``RuntimeError``. Every call that computes
releases the GIL.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypedDict, type_check_only

import numpy as np
import numpy.typing as npt
from typing_extensions import Unpack

from lookm_cpp.info_types import DeviceInfo, MemoryPlan, MethodDefaults, ModelInfo

__version__: str
llama_cpp_version: str

class _Picture(Protocol):
    def pixels(self) -> npt.NDArray[np.uint8]: ...
    def known(self) -> tuple[str, int, int] | None: ...
    def remember(self, digest: str) -> None: ...

_Image: TypeAlias = npt.NDArray[np.uint8] | Callable[[], npt.NDArray[np.uint8]] | _Picture

@type_check_only
class Stats(TypedDict):
    """Statistics of the last prompt: counts are cells, sizes bytes, times seconds."""

    prompt_cells: int
    text_cells: int
    image_cells: int
    encoded_cells: int
    context_cells: int
    reused_cells: int
    reused_image_cells: int
    squeezed_cells: int
    kept_cells: int
    kept_text_cells: int
    kept_image_cells: int
    kept_context_cells: int
    kv_ratio: float
    chosen_ratio: float | None
    attention_held: float | None
    method: str
    note: str
    kv_bytes_used_before: int
    kv_bytes_used_after: int
    kv_bytes_allocated_before: int
    kv_bytes_allocated_after: int
    compress_bytes_peak: int
    encode_seconds: float
    prune_seconds: float
    prefill_seconds: float
    score_seconds: float
    compress_seconds: float
    move_seconds: float
    decode_seconds: float
    encode_images: int
    decode_tokens: int

@type_check_only
class ExplainedPiece(TypedDict):
    """A piece of an image, as in ``lookm_cpp.explaining.Piece``."""

    image: int
    tile: bool
    area: tuple[float, float, float, float] | None
    nx: int
    ny: int
    pruned: list[tuple[int, int]]

@type_check_only
class ExplainedLayer(TypedDict):
    """One layer's cells, each ``[n_head_kv, n]``, as in ``lookm_cpp.explaining.LayerCells``."""

    il: int
    kept: npt.NDArray[np.int32]
    merged_into: npt.NDArray[np.int32]
    score: npt.NDArray[np.float32]

@type_check_only
class Explanation(TypedDict):
    """The last prompt, cell by cell.

    ``is_text``, ``piece`` (an index into ``pieces``; -1 for text) and ``text`` are ``[n_cells]``.
    ``place`` is ``[n_cells, 2]``: column and row, or -1. ``layers`` is empty if nothing was
    compressed.
    """

    is_text: npt.NDArray[np.bool_]
    piece: npt.NDArray[np.int32]
    place: npt.NDArray[np.int32]
    text: list[bytes]
    pieces: list[ExplainedPiece]
    layers: list[ExplainedLayer]

def chat_templates() -> list[str]:
    """Names of the chat templates that llama.cpp has built in."""

def methods() -> dict[str, MethodDefaults]:
    """The compression methods and their defaults by name; ``origin``, which keeps all, is first."""

class Compression:
    """How a prompt is compressed; fields and defaults are those of ``lookm_cpp.Compression``.

    A field of the wrong type raises ``ValueError``. A value is checked when it is used.
    """

    def __init__(self, **fields: Any) -> None: ...
    @property
    def kv_ratio(self) -> float | str: ...
    @property
    def method(self) -> str: ...
    @property
    def important_ratio(self) -> float | None: ...
    @property
    def recent_ratio(self) -> float | None: ...
    @property
    def ratio_floor(self) -> float: ...
    @property
    def ratio_ceiling(self) -> float: ...
    @property
    def quality(self) -> float: ...
    @property
    def text_overflow(self) -> str | None: ...
    @property
    def fidelity(self) -> str: ...
    @property
    def scorer(self) -> str | None: ...
    @property
    def window(self) -> int | None: ...
    @property
    def merge(self) -> str | None: ...
    @property
    def merge_keys(self) -> bool: ...
    @property
    def merge_within_modality(self) -> bool: ...
    @property
    def visual_quota(self) -> float | None: ...
    @property
    def image_ratio(self) -> float: ...
    @property
    def image_cells(self) -> int | None: ...
    @property
    def pruner(self) -> str: ...
    @property
    def seed(self) -> int:
        """Random seed of the method ``random`` and of the pruner ``random``."""

class ModelOptions:
    """How a model is opened, with the core's defaults; types are checked as in ``Compression``.

    ``Llava`` documents the options that it passes on, and ``model_options.h`` all of them.
    """

    def __init__(self, **fields: Any) -> None: ...
    def __getattr__(self, name: str) -> Any: ...

def parse_bytes(text: str) -> int | None:
    """Bytes in the form that users write, ``"512MiB"`` or ``"1.5 G"``.

    ``None`` for any other text, and for a number that is less than 1 or too large.
    """

def check_compression(compression: Compression) -> None:
    """``ValueError`` for an invalid option."""

def model_info(model_path: str, type_k: str = "f16", type_v: str = "f16") -> ModelInfo:
    """Describe a model file; maps its weights into memory and makes a minimal context."""

def check_files(model_path: str, mmproj_path: str, command: Sequence[str]) -> None:
    """Try files in a child process, unless they are known to be good.

    The child is ``command`` with the two paths and a pipe as further arguments.
    """

def file_doubts(parts: list[str]) -> list[str]: ...
def model_parts(model_path: str) -> list[str]:
    """The files that llama.cpp reads for this one: all parts of a split model, or itself."""

def try_files(model_path: str, mmproj_path: str, pipe: int) -> None:
    """The work of the child: report on the pipe how it goes, and end the process."""

def devices(rpc_servers: str = "", type_k: str = "f16", type_v: str = "f16") -> list[DeviceInfo]:
    """The CPU, the devices of the RPC servers, and the accelerators.

    ``type`` is CPU, GPU, IGPU or RPC. ``on_device``: whether it runs every node of the graphs that
    compress caches of these types. ``note``: the operation that it lacks, or a remark.
    """

@type_check_only
class _Reading(TypedDict, total=False):
    """How a prompt is read; ``Session.prefill`` explains it."""

    contexts: list[str]
    n_answer: int
    progress: Callable[[str, int, int], None] | None
    explain: bool
    reuse: bool

class Sampling:
    """How the tokens of an answer are chosen; names and meanings are llama.cpp's.

    ``temperature`` 0 is greedy. ``mirostat_mode`` 1 and 2 replace ``top_k``, ``top_p``, ``min_p``
    and ``typical_p``. ``grammar`` is GBNF text with a rule ``root``, and ``json_schema`` JSON text;
    both empty: any answer. With ``ignore_eos``, no token ends it.
    """

    def __init__(self, **fields: Any) -> None: ...
    def __getattr__(self, name: str) -> Any: ...

class ChatPrompt:
    """A prompt as a chat template has made it, and the form of the answer to it."""

    @property
    def text(self) -> str: ...
    @property
    def stops(self) -> list[str]:
        """Strings that end the answer."""

    @property
    def is_plain(self) -> bool:
        """Whether the answer is text and nothing else.

        Otherwise it may have tool calls, reasoning, or something around JSON: see ``parse``.
        """

    def parse(self, answer: str, is_partial: bool) -> str:
        """The answer as a message in OpenAI's format, in JSON.

        It has ``content``, and ``reasoning_content`` and ``tool_calls`` where there are any.
        ``is_partial``: more of the answer may follow, and what is not certain yet is left out. All
        of an answer that is not of the form is content.
        """

class Session:
    """One model, one multimodal projector, one conversation."""

    def __init__(
        self,
        options: ModelOptions,
        compression: Compression | None = None,
        *,
        weights_of: Session | None = None,
    ) -> None:
        """Open a model.

        ``compression``: that of later prompts, if it is known. ``flash_attn="auto"`` takes it into
        account, and an invalid option, or a model that cannot be compressed, raises ``ValueError``
        at once. ``weights_of``: a session of the same file, whose weights and loading options are
        shared.
        """

    @property
    def flash_attn(self) -> str:
        """As given, or ``off`` if that is what ``auto`` chose."""

    @property
    def media_marker(self) -> str:
        """Stands for one image in a prompt; random, so that no user text contains it."""

    @property
    def context_marker(self) -> str:
        """Stands for one context in a prompt, as ``media_marker`` does for an image."""

    @property
    def n_ctx(self) -> int: ...
    @property
    def kv_cells(self) -> int:
        """Maximum number of cells in use at once; 0 for no cap."""

    @property
    def model_name(self) -> str: ...
    def apply_template(self, messages: str) -> str:
        """The prompt of OpenAI-style ``messages``, ending where the assistant's answer begins.

        ``messages`` is JSON text. Content is a string, or parts of type ``text`` and
        ``media_marker``. Raises ``ValueError`` in the same cases as ``check_template``.
        """

    def chat_prompt(self, **fields: Any) -> ChatPrompt:
        """The prompt for ``messages`` as above, and the form of the answer to it.

        The other fields are texts of JSON as well, empty for none: ``tools`` in OpenAI's format,
        ``json_schema`` of the answer, and ``template_arguments``, an object of variables for the
        template. ``tool_choice`` is ``auto``, ``none`` or ``required``, and
        ``parallel_tool_calls`` a ``bool``. Raises ``ValueError`` for what the template or llama.cpp
        cannot use.
        """

    def n_cells_of(
        self,
        prompt: str,
        images: Sequence[_Image],
        compression: Compression,
        **how: Unpack[_Reading],
    ) -> int:
        """Number of cells of a prompt, which is not read."""

    def check_template(self) -> None:
        """Raise ``ValueError`` if neither ``chat_template`` was given nor the GGUF has one."""

    def check(self, compression: Compression) -> None:
        """Raise ``ValueError`` for an invalid option, or if this model cannot be compressed."""

    def prefill(
        self,
        prompt: str,
        images: Sequence[_Image],
        compression: Compression,
        **how: Unpack[_Reading],
    ) -> None:
        """Forget the last prompt, read this one, and compress its KV cache.

        What the kept cells and ``n_answer`` more do not need is freed, unless ``shrink`` is off.
        The answer may be longer, up to ``n_ctx`` cells, or without limit under a cap (``kv_cells``,
        ``kv_memory``). Longer prompts than the cap are squeezed while they are read.

        ``images``: RGB, ``[height, width, 3]``, one for each ``media_marker`` in ``prompt``; or
        functions that return them, each called when its image is needed, possibly more than once;
        or ``Picture``s, which are not decoded where nothing but their size is needed.
        ``contexts``: texts, one for each ``context_marker``; their cells may be evicted like those
        of an image, and control tokens in them are read as text. ``progress(phase, done, total)``
        is called between steps. The phases are ``encode`` (images, or the tiles that a model cuts
        them into), ``prefill`` (cells) and ``compress`` (layers). An exception that it raises stops
        the work and is passed on. Signals are handled between steps as well. ``reuse``: go on from
        what an earlier prompt began with, and keep what this one begins with.
        """

    def keep_prefix(
        self,
        prompt: str,
        images: Sequence[_Image],
        compression: Compression,
        **how: Unpack[_Reading],
    ) -> int:
        """Read a prompt up to its last image or context, and keep that for ``prefill``.

        Returns the number of cells. ``ValueError`` without images and contexts, or if
        ``prefix_memory`` does not hold them. No prompt is there to be answered afterwards.
        """

    def prefix_state(
        self,
        prompt: str,
        images: Sequence[_Image],
        compression: Compression,
        **how: Unpack[_Reading],
    ) -> bytes:
        """What ``keep_prefix`` has kept of this prompt; it is read again if it is not there."""

    def restore_prefix(self, state: bytes) -> int:
        """Keep what ``prefix_state`` gave; returns its cells.

        ``ValueError`` if it was made by another model or with other types, or if ``prefix_memory``
        does not hold it. No prompt is there to be answered afterwards.
        """

    @property
    def prefix_type(self) -> str:
        """Type of the prefixes' K and V; empty: that of the cache."""

    @property
    def prefix_bytes(self) -> int:
        """Bytes of all beginnings of prompts that are kept."""

    @property
    def prefix_count(self) -> int:
        """Number of them."""

    def converse(
        self,
        prompt: str,
        images: Sequence[_Image],
        compression: Compression,
        **how: Unpack[_Reading],
    ) -> None:
        """Read the next turn of a conversation; the first call begins one.

        As ``prefill``, but after what is there: ``prompt`` is the template's text after the end of
        the last answer. Then evictable parts of all turns shrink, the oldest first, until
        ``kv_ratio`` of all cells so far is left. If something is wrong before anything is read, it
        raises ``ValueError`` and leaves the conversation as it is.
        """

    def converse_anew(
        self,
        prompt: str,
        images: Sequence[_Image],
        compression: Compression,
        **how: Unpack[_Reading],
    ) -> None:
        """As ``converse``, but always begins a conversation."""

    @property
    def talking(self) -> bool:
        """Whether there is a conversation; an error while it is read or answered ends it."""

    @property
    def epoch(self) -> int:
        """Increases each time the current prompt is discarded.

        Calls that are rejected before that do not change it.
        """

    def state(self) -> bytes:
        """The conversation between two turns, for ``restore``; ``ValueError`` if there is none."""

    def restore(self, state: bytes, compression: Compression) -> None:
        """Continue a saved conversation.

        Raises ``ValueError`` for a state of another model or of other cache types.
        """

    def check_sampling(self, prompt: ChatPrompt | None = None, **sampling: Any) -> None:
        """Raise ``ValueError`` for the options that ``start`` would refuse."""

    def start(self, prompt: ChatPrompt | None = None, **sampling: Any) -> None:
        """Begin an answer to the last prompt; the options are the fields of ``Sampling``.

        ``prompt``: what is answered, if its chat template tells the form of the answer.
        ``ValueError`` for an option that is out of range, and for a grammar or a schema that
        llama.cpp cannot use.
        """

    def next(self) -> bytes | None:
        """Sample and decode one token; ``None`` at the end of the answer.

        The result is the token's text in UTF-8, possibly part of a character. Raises
        ``RuntimeError`` if the context is full (see ``can_continue``).
        """

    @property
    def token(self) -> int | None:
        """The token that ``next`` has given last; ``None`` if there is none."""

    def log_probs(self) -> npt.NDArray[np.float32]:
        """The distribution that ``next`` has chosen from last, as log-probabilities ``[n_vocab]``.

        They are in nats, and without temperature and penalties. ``ValueError`` before an answer's
        first token.
        """

    def distributions(self, tokens: list[int]) -> npt.NDArray[np.float32]:
        """Read tokens as if the answer to the prompt began with them.

        Returns the log-probabilities of the token that comes after each of them, in nats,
        ``[n, n_vocab]``. Another call continues after them; ``start`` and ``follow`` go back to the
        end of the prompt. ``ValueError`` for tokens that do not exist or do not fit into ``n_ctx``
        or under the cap, in conversations, and if an answer has begun.
        """

    def read(
        self,
        prompt: str,
        images: Sequence[_Image],
        compression: Compression,
        **how: Unpack[_Reading],
    ) -> None:
        """As ``prefill``, but keep every cell, and a copy of all of them for trials.

        The prompt may end with an image; then ``follow`` adds the text that is to be answered. The
        method determines which attention is observed.
        """

    def trial(self, compression: Compression) -> None:
        """Compress the cells as they were read, regardless of earlier trials.

        Raises ``ValueError`` if this needs attention that was not observed.
        """

    def follow(self, text: str) -> None:
        """Append uncompressed text after the compressed prompt.

        It replaces anything appended since the last ``trial``.
        """

    def tokens_of(self, text: str, control: bool = False) -> list[int]:
        """Tokens of a text, without begin and end tokens.

        ``control``: names of control tokens are read as those tokens, else as text.
        """

    @property
    def begin_token(self) -> int | None:
        """The token that prompts begin with; ``None`` if the model has none."""

    def piece_of(self, token: int) -> bytes:
        """The text of a token within a text; the name of a control token."""

    def text_of(self, tokens: list[int], control: bool = False) -> bytes:
        """Text of tokens in UTF-8, which may end within a character.

        ``control``: with the names of control tokens.
        """

    @property
    def can_continue(self) -> bool:
        """Whether a cell is free for another token."""

    @property
    def stats(self) -> Stats: ...
    @property
    def explanation(self) -> Explanation | None:
        """What happened to the last prompt's cells; ``None`` if it was read without ``explain``."""

    def close(self) -> None:
        """Free the model and its caches; any later call raises ``ValueError``."""

def scores(
    q: npt.NDArray[np.float32],
    k: npt.NDArray[Any],
    scale: float,
    n_past: int = 0,
    on_device: bool = False,
) -> npt.NDArray[np.float32]:
    """Column sums of ``softmax(scale * q @ k^T)`` under a causal mask.

    ``q``: ``[n_head, n_tokens, head_dim]`` f32. ``k``: ``[n_head_kv, n_kv, head_dim]`` f32 or f16.
    Query i sees the cells ``0`` to ``n_past + i``. ``on_device`` uses the graph that accelerators
    run instead of the CPU's own loop. Returns ``[n_head_kv, n_kv]`` f32, the mean over each group's
    query heads.
    """

def first_query(
    is_text: npt.NDArray[np.bool_],
    compression: Compression,
) -> int:
    """Index of the first query whose attention counts; 0 unless the scorer is ``window``.

    ``is_text``: ``[n_kv]``.
    """

def choose_ratio(
    scores: npt.NDArray[np.float32],
    is_text: npt.NDArray[np.bool_],
    compression: Compression,
    *,
    squares: npt.NDArray[np.float32] | None = None,
) -> tuple[float, float | None]:
    """The ratio that ``kv_ratio`` ``"auto"`` takes, and the share of attention that it holds.

    ``scores``, ``squares``: ``[n_layer, n_head_kv, n_kv]``; ``is_text``: ``[n_kv]``.
    """

def select(
    scores: npt.NDArray[np.float32],
    is_text: npt.NDArray[np.bool_],
    compression: Compression,
    *,
    squares: npt.NDArray[np.float32] | None = None,
    layer: int = 0,
) -> npt.NDArray[np.int32]:
    """The kept cells ``[n_head_kv, n_keep]``, ascending in each row.

    ``scores``, ``squares``: ``[n_head_kv, n_kv]``; ``is_text``: ``[n_kv]``.
    """

def prune(
    cells: npt.NDArray[np.float32],
    n_keep: int,
    pruner: str,
    place: npt.NDArray[np.int32],
    question: npt.NDArray[np.float32],
    seed: int,
) -> npt.NDArray[np.int32]:
    """Cells of an image to read, ascending; see ``lookm_cpp.arrays.prune``."""

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
    """One layer: ``k [n_head_kv, n_kv, head_dim_k]`` and ``v [n_head_kv, n_kv, head_dim_v]``.

    Both are f32 or both are f16. Returns ``(k, v, kept, merged_into)``: rows
    ``[n_head_kv, n_keep, head_dim]`` in the input's type, ``kept [n_head_kv, n_keep]`` ascending,
    and ``merged_into [n_head_kv, n_kv]``: for an evicted cell, the kept cell (an index into
    ``n_kv``) it was merged into; -1 for kept cells and for cells that were dropped. ``on_device``
    merges with the graph that accelerators run instead of the CPU's own loop; both agree up to
    rounding.
    """

class Planner:
    """A model and its projector without their weights, to plan the memory of a session.

    Options are those of ``Session``; bytes are the sum over all devices.
    """

    def __init__(self, options: ModelOptions) -> None: ...
    @property
    def media_marker(self) -> str: ...
    @property
    def context_marker(self) -> str: ...
    def apply_template(self, messages: str) -> str:
        """As in ``Session``."""
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
        """Plan a prompt with ``n_images``.

        ``one`` and ``two`` are prompts with one and two image markers. ``image_size`` is width and
        height. ``memory`` 0 is all that the devices report.
        """
