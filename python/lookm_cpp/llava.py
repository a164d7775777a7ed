"""A vision-language model with a compressed KV cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from lookm_cpp import _core, embedded
from lookm_cpp.answer import Answer
from lookm_cpp.chat import Reply, contexts_of, question_messages
from lookm_cpp.compression import RATIOS, Compression, compression_of
from lookm_cpp.conversation import Chat, Place
from lookm_cpp.explaining.explain import (
    KV_RATIO,
    METHODS,
    Outcome,
    Shown,
    explain_methods,
    upright_images,
)
from lookm_cpp.explaining.explanation import Explanation
from lookm_cpp.file_check import CHECK_FILES, check_model_files
from lookm_cpp.files import existing_file, find_mmproj
from lookm_cpp.images import MAX_PIXELS, Images, pixel_limit
from lookm_cpp.opening import model_options
from lookm_cpp.options import RANDOM_SEED, greedy_unless, seed_of
from lookm_cpp.request import Request
from lookm_cpp.stats import Stats
from lookm_cpp.turns import Turns
from lookm_cpp.words import flag

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from lookm_cpp.chat_types import ChatCompletion, ChatCompletionChunk
    from lookm_cpp.compression import CompressionOverrides
    from lookm_cpp.options import ChatOptions, LlavaOptions


class Llava:
    """A GGUF language model with its multimodal projector, answering one prompt at a time.

    Right after a prompt is prefilled, its KV cache is compressed to about ``kv_ratio`` of its cells
    by LOOK-M; the prompt itself is read, and the answer's first token chosen, with the full cache.

    Calls from several threads are served one after the other. There is one conversation: a new
    prompt, from whatever thread, ends a stream that is not exhausted yet, and the next step of that
    stream raises ``RuntimeError``. A stream may also simply be dropped. Ctrl-C stops the work
    within a token and leaves the object usable.

    A forked child may use its parent's object on the CPU, unless another thread was at work when it
    was forked; what it cannot use raises ``RuntimeError``. A daemon thread's work is stopped when
    the interpreter ends: ``SystemExit``.

    Args:
        model_path: The GGUF language model.
        mmproj: The GGUF projector; unless given, the one ``mmproj*.gguf`` beside the model;
            ``False`` for text alone.
        chat_template: In place of the model's own: a name that llama.cpp knows
            (``lookm_cpp.chat_templates()``), a file, or Jinja text. A model without one needs it:
            ``"vicuna"`` is LLaVA-1.5's.
        kv_ratio: Share of a prompt's cells to keep, in (0, 1]; 1 compresses nothing.
        method: A name of ``lookm_cpp.methods()``.
        important_ratio: Share kept for their attention score; 0.9 of ``kv_ratio`` unless given,
            half of it with all methods but ``lookm_plus``.
        recent_ratio: Share kept because they are the last; the rest of ``kv_ratio`` unless given.
        text_overflow: ``keep`` keeps every text cell even past the budget, ``evict`` holds the
            budget exactly; the method's own unless given: ``evict`` with ``lookm_plus``, else
            ``keep``.
        fidelity: ``paper`` or ``upstream``: whose meaning holds where LOOK-M's paper and its
            published code differ.
        scorer: ``cumulative`` (all queries), ``window`` (the last) or ``none``, in place of the
            method's own.
        window: The last so many queries are the window's; unless given, 64 with ``snapkv``, else
            those of the text after the last image.
        merge_keys: Merge K as V; ``False`` leaves kept keys as they are.
        merge_within_modality: Merge text into text and images into images only.
        visual_quota: Least share of the important cells that are image cells, in [0, 1]; the
            method's own unless given: 0.5 with ``lookm_plus``, else 0.
        n_ctx: Most cells of prompt and answer together, in steps of 256; 0 takes the model's own
            training length.
        n_batch: Tokens handed to llama.cpp at once.
        n_ubatch: Tokens computed at once.
        n_threads: CPU threads; ``None`` lets the core choose.
        n_gpu_layers: Layers on the accelerator; -1 for all.
        flash_attn: ``True``, ``False`` or ``"auto"``. ``"auto"`` is llama.cpp's choice, but off on
            a CPU alone where ``kv_ratio`` asks for scores of all queries or K is quantized, V is
            not, and the attention probabilities that are then kept (``4 * n_ubatch * n_head`` bytes
            a cell) are at most a quarter of the KV cache.
        type_k: Type of the K cache, as llama.cpp names it.
        type_v: Type of the V cache.
        kept_type_k: Type that K is kept in once the prompt is read and compressed, ``"q4_0"`` for
            example: it is read as fast as ``type_k`` is, and answered from less memory. ``type_k``
            unless given. Not for conversations.
        kept_type_v: The same for V; a quantized one is answered from with flash attention, whatever
            ``flash_attn`` is.
        rpc_servers: Machines that run llama.cpp's ``ggml-rpc-server``, as
            ``"host:port,host:port"``: layers and their caches lie there, too, and are compressed
            there. A server that dies later ends this process.
        tensor_split: Share of the layers for each device, servers first; by their free memory
            unless given.
        compute_bytes: Memory that scoring and compression may take on a device, from 1 MiB on,
            beside the scores themselves (4 bytes a cell, layer and KV head) and never less than the
            kept rows of one KV head.
        seed: Of the sampler, a new one for every answer unless given; and of the method ``random``,
            0 unless given.
        shrink: Allocate the KV cache by need: for the prompt while it is read; then, once it is
            compressed, for the kept cells and ``max_tokens`` more, and what is over goes back to
            the system. ``False`` allocates ``n_ctx`` cells once.
        kv_cells: Most cells of the KV cache in use at any time, however long a prompt or its
            answer: what is cached is squeezed while the prompt is read. llama.cpp allocates them in
            steps of 256. ``docs/long_prompts.md``
        kv_memory: The same in bytes of the KV buffers, as a number or like ``"512MiB"``; instead of
            ``kv_cells``.
        max_pixels: Most pixels of an image; a larger one is refused before it is decoded. The
            default, 8192 x 8192, lets pass what cameras of 64 megapixels take. While an image is
            decoded, it takes about seven bytes a pixel.
        check_files: Open files that were not seen before in a child process first, because
            llama.cpp ends the process on many a damaged one: ``docs/models.md``. ``False`` is for
            files that you trust.
        verbose: Let llama.cpp write its log to stderr.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: An argument is outside its range, a file is not a GGUF or damaged, model and
            projector do not belong together, the model has no chat template, or no single projector
            lies beside it.
        MemoryError: It does not fit into memory, by its plan; or a limit (``ulimit``, cgroup) is in
            its way.
        RuntimeError: llama.cpp cannot make a context.

    >>> with Llava.embedded(kv_ratio=0.2) as llm:
    ...     pictures = [embedded.DEMO / "pic03.png", embedded.DEMO / "pic08.png"]
    ...     llm.ask("Image 1:<image> Image 2:<image> What is in image 2?", pictures)
    'Image 2 shows an owl.'
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        *,
        mmproj: str | os.PathLike[str] | Literal[False] | None = None,
        **options: Unpack[LlavaOptions],
    ) -> None:
        given: dict[str, Any] = {**options}
        self._max_pixels = pixel_limit("max_pixels", given.pop("max_pixels", MAX_PIXELS))
        self._compression = compression_of(Compression(), given)
        seed = seed_of(given.pop("seed", RANDOM_SEED))
        checks = flag("check_files", given.pop("check_files", CHECK_FILES))
        model = existing_file(model_path, "model_path")
        projector: Path | None = None
        if mmproj is not False:
            projector = find_mmproj(model) if mmproj is None else existing_file(mmproj, "mmproj")
        opened = model_options(model, projector, **given)
        if checks:
            check_model_files(model, projector)
        self._session = _core.Session(opened, self._compression.core())
        self._session.check_template()
        self._seed = seed
        self._model = model
        self._projector = projector
        self._template = opened.chat_template
        self._cache = {
            "type_k": opened.type_k,
            "type_v": opened.type_v,
            "flash_attn": self._session.flash_attn,
        }
        self._name = self._session.model_name or model.stem
        self._stats = Stats()
        self._turns = Turns(self._session)
        self._closed = False

    @classmethod
    def embedded(cls, **options: Unpack[LlavaOptions]) -> Self:
        """The small model that ships with the package; takes every option of ``Llava`` but the
        files.

        ``n_threads`` is 1 unless given: the model is too small to be worth sharing.
        """
        if options.get("n_threads") is None:
            options["n_threads"] = 1
        return cls(embedded.MODEL, mmproj=embedded.MMPROJ, **options)

    @property
    def n_ctx(self) -> int:
        """Cells of the context, prompt and answer together."""
        self._check_open()
        return self._session.n_ctx

    @property
    def kv_cells(self) -> int | None:
        """Most cells in use at any time, by ``kv_cells`` or ``kv_memory``."""
        self._check_open()
        return self._session.kv_cells or None

    @property
    def model_name(self) -> str:
        """The model's name for itself, or its file's."""
        return self._name

    @property
    def stats(self) -> Stats:
        """What happened to the last prompt; all zero before the first.

        A conversation has its own (``Chat.stats``).
        """
        self._check_open()
        return self._stats

    @overload
    def create_chat_completion(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        stream: Literal[False] = False,
        **options: Unpack[ChatOptions],
    ) -> ChatCompletion: ...
    @overload
    def create_chat_completion(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        stream: Literal[True],
        **options: Unpack[ChatOptions],
    ) -> Iterator[ChatCompletionChunk]: ...
    def create_chat_completion(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        stream: bool = False,
        **options: Unpack[ChatOptions],
    ) -> ChatCompletion | Iterator[ChatCompletionChunk]:
        """Answer a conversation of OpenAI-style messages.

        The prompt is processed before the call returns, with ``stream`` too.

        Args:
            messages: Dicts with ``role`` and ``content``: a string, or parts ``{"type": "text",
                "text": ...}`` and ``{"type": "image_url", "image_url": IMAGE}``. An image, or
                ``{"url": IMAGE}``, is a file path, a ``file://`` or ``data:`` URI, bytes, a PIL
                image or an array (``lookm_cpp.images.ImageLike``); what is transparent in it shows
                white. Any message may hold several; in ollama's form, ``images`` beside
                ``content``, they come before the text. Cells of a text part with ``"evictable":
                True`` may be evicted as an image's may; its control tokens are only text.
                ``tool_calls``, ``tool_call_id``, ``name`` and ``reasoning_content`` are handed to
                the chat template. ``detail``, ``cache_control`` and ``annotations`` have no effect;
                any other key that has a value is an error.
            stream: Yield the answer in chunks.
            max_tokens: Most tokens of the answer; ``None`` or less than 1 for as many as fit the
                context (with ``kv_cells``, under which an answer never runs out of cells:
                ``n_ctx``).
            temperature: 0 is greedy; 0.2 unless given. ``None``, here and for what follows, is the
                default.
            top_p: Nucleus sampling; 0.95 unless given.
            top_k: Sample among so many tokens; 40 unless given.
            min_p: Least probability of a token, as a share of the best token's; 0.05 unless given.
            repeat_penalty: As in llama.cpp; 1 for none.
            frequency_penalty: As in llama.cpp; 0 for none.
            presence_penalty: As in llama.cpp; 0 for none.
            seed: Of this answer; the object's own unless given.
            stop: Strings that end the answer; no part of them is given out.
            compression: How this prompt is compressed, in place of the object's own way.
            kv_ratio: For this prompt, in place of the object's own; as are ``method`` and the other
                fields of a ``Compression``. A ratio given here replaces all three.
            progress: Called as ``progress(phase, done, total)`` between steps of ``encode``
                (images, or the tiles a model cuts them into), ``prefill`` (cells) and ``compress``
                (layers); what it raises ends the call.

        Returns:
            A dict of the shape ``ChatCompletion``, or an iterator of ``ChatCompletionChunk``: the
            role first, then text, at last a ``finish_reason``.

        Raises:
            ValueError: Messages, images or arguments cannot be used, the prompt does not fit the
                context, or the object is closed.
            FileNotFoundError: An image's file does not exist.
            TypeError: Something is given as an image that is none.
            RuntimeError: llama.cpp failed.
        """
        self._check_open()
        request = self._request(messages, options)
        with self._turns.hold():
            self._check_open()
            answer = request.begin(self._session)
            self._stats = Stats(**self._session.stats)
            if stream:
                return self._chunks(answer, self._turns.now())
            text = "".join(answer)
            self._stats = Stats(**self._session.stats)
            return Reply(self._name).completion(text, answer, self._stats.prompt_cells)

    def ask(
        self,
        question: str,
        images: Images = (),
        *,
        context: str | Sequence[str] | None = None,
        system: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> str:
        """Answer one question about images, greedily unless a ``temperature`` is given; space
        around is cut off.

        Args:
            question: Images stand where ``<image>`` is; without any placeholder they come before
                the question.
            images: File paths, ``data:`` URIs, bytes, PIL images, arrays
                (``lookm_cpp.images.ImageLike``); one alone needs no list.
            context: A long text, or several, to come first, each ended by a line break. Its cells
                may be evicted as an image's may; the question's stay where text is kept first.
            system: A system message, before everything else.
            **options: As of ``create_chat_completion``; ``temperature`` is 0 unless given.

        Raises:
            ValueError: Placeholders and images differ in number, or as in
                ``create_chat_completion``.
            FileNotFoundError: An image's file does not exist.
            TypeError: Something is given as an image that is none.
        """
        if "stream" in options:
            raise ValueError(
                "stream is given to ask, which returns a text; expected create_chat_completion for streams"
            )
        options["temperature"] = greedy_unless(options.get("temperature"))
        messages = question_messages(question, images, contexts_of(context), system)
        completion = self.create_chat_completion(messages, **options)
        return completion["choices"][0]["message"]["content"].strip()

    def explain(
        self,
        question: str,
        images: Images = (),
        *,
        context: str | Sequence[str] | None = None,
        system: str | None = None,
        methods: Sequence[str] = METHODS,
        **options: Unpack[ChatOptions],
    ) -> Explanation:
        """Answer a question with the full cache and by each method, and say what became of every
        cell.

        ``explanation.save("report.html")`` writes a page with heat maps over the images, and
        ``save("report.png")`` a picture of them.

        Args:
            question: As of ``ask``.
            images: As of ``ask``.
            context: As of ``ask``.
            system: As of ``ask``.
            methods: Names of ``lookm_cpp.methods()``.
            **options: As of ``ask``, but ``method``; ``kv_ratio`` is 0.2 unless given here or to
                the constructor.

        Raises:
            ValueError: A method is named twice or none is, or as in ``ask``.

        >>> with Llava.embedded() as llm:
        ...     pictures = [embedded.DEMO / "pic03.png", embedded.DEMO / "pic08.png"]
        ...     found = llm.explain("<image> <image> What is in image 2?", pictures,
        ...                         methods=["h2o"])
        >>> found.grid(1, found.methods[0].share_kept()).shape
        (8, 8)
        """
        options["temperature"] = greedy_unless(options.get("temperature"))
        ratios = [options.get(name) for name in RATIOS]
        if ratios == [None] * len(RATIOS) and not self._compression.has_ratio:
            options["kv_ratio"] = KV_RATIO
        self._check_open()
        pictures = upright_images(images, self._max_pixels)
        messages = question_messages(question, pictures, contexts_of(context), system)
        shown = Shown(self._name, question, pictures)
        return explain_methods(
            lambda given: self._explained(messages, given), shown, methods, options
        )

    def _explained(self, messages: Sequence[Mapping[str, Any]], options: ChatOptions) -> Outcome:
        request = self._request(messages, options)
        with self._turns.hold():
            self._check_open()
            answer = request.begin(self._session, explain=True)
            found, self._stats = self._session.explanation, Stats(**self._session.stats)
            if found is None:
                raise RuntimeError(
                    "the session has nothing to explain of a prompt that it was to explain"
                )
            return Outcome("".join(answer).strip(), self._stats, found)

    def _request(self, messages: Sequence[Mapping[str, Any]], options: ChatOptions) -> Request:
        return Request.of(
            self._session,
            messages,
            options,
            compression=self._compression,
            seed=self._seed,
            max_pixels=self._max_pixels,
        )

    def chat(self, *, system: str | None = None, **options: Unpack[CompressionOverrides]) -> Chat:
        """A conversation; options in place of the object's own, for all its turns.

        Args:
            system: What comes before everything else, if the chat template has a place for it.
            **options: As of ``create_chat_completion``.

        Raises:
            ValueError: An option is wrong.

        >>> with Llava.embedded(kv_ratio=0.6) as llm:
        ...     chat = llm.chat()
        ...     pictures = [embedded.DEMO / "pic03.png", embedded.DEMO / "pic08.png"]
        ...     chat.ask("Image 1:<image> Image 2:<image> What is in image 2?", pictures)
        'Image 2 shows an owl.'
        """
        self._check_open()
        given: dict[str, Any] = {**options}
        compression = compression_of(self._compression, given)
        for name in given:
            raise TypeError(f"{name} is no option of a conversation")
        self._session.check(compression.core())
        return Chat(self._place(), compression, system)

    def load_state(self, path: str | os.PathLike[str]) -> Chat:
        """The conversation that ``Chat.save`` wrote, with the same files, template, cache types and
        flash attention.

        It goes on where it was.

        Raises:
            ValueError: The file holds no conversation, is damaged, or is of another model, or its
                cells do not fit.
            OSError: It cannot be read.
        """
        self._check_open()
        return Chat.load(path, self._place())

    def _place(self) -> Place:
        return Place(
            self._session,
            self._turns,
            self._model,
            self._projector,
            self._cache,
            self._template,
            self._seed,
            self._max_pixels,
        )

    def close(self) -> None:
        """Free model and caches.

        May be called again; whatever else is called then raises ``ValueError``.
        """
        with self._turns.hold():
            if not self._closed:
                self._closed = True
                self._session.close()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("Llava is closed, expected an open one")

    def _chunks(self, answer: Answer, turn: int) -> Iterator[ChatCompletionChunk]:
        reply = Reply(self._name)
        yield reply.chunk({"role": "assistant"})
        text: str | None = ""
        while text is not None:
            with self._turns.hold():
                self._check_open()
                self._turns.check(turn)
                text = next(answer, None)
                self._stats = Stats(**self._session.stats)
            if text is not None:
                yield reply.chunk({"content": text})
        yield reply.chunk({}, answer.finish_reason)
