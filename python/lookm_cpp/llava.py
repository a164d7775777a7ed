"""A vision-language model with a compressed KV cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from lookm_cpp.answer_parts import content_of
from lookm_cpp.answer_text import AnswerText
from lookm_cpp.brief import brief
from lookm_cpp.chat import contexts_of, messages_alone, question_messages
from lookm_cpp.comparison import COMPARED_RATIO, Comparison, compare_caches
from lookm_cpp.completion_form import CompletionForm
from lookm_cpp.compression import RATIOS, compression_of
from lookm_cpp.conversation import Chat
from lookm_cpp.explaining.explain import (
    KV_RATIO,
    METHODS,
    Outcome,
    Shown,
    explain_methods,
    upright_images,
)
from lookm_cpp.explaining.explanation import Explanation
from lookm_cpp.full_conversation import FullChat
from lookm_cpp.images import ImageLike, Images
from lookm_cpp.messages import last_text, with_images
from lookm_cpp.options import greedy_unless, method_seed
from lookm_cpp.prefix import Prefix
from lookm_cpp.reply import ChatReply
from lookm_cpp.stats import Stats
from lookm_cpp.text_model import TextModel
from lookm_cpp.words import flag

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lookm_cpp.chat_types import ChatCompletion, ChatCompletionChunk
    from lookm_cpp.compression import CompressionOverrides
    from lookm_cpp.options import ChatOptions, CompletionOptions, LlavaOptions, Progress

OF_COMPLETIONS = (
    "stream",
    "stream_options",
    "n",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
)
"""Options of ``create_chat_completion`` that change what it returns."""


class Llava(TextModel):
    """A GGUF model with its image projector, which answers one prompt at a time.

    Each prompt is read with the full KV cache, which also chooses the first token of the answer.
    Then LOOK-M compresses the cache to about ``kv_ratio`` of its cells, and the rest of the answer
    is decoded from those.

    Calls from several threads run one after the other. A ``Llava`` holds one conversation: a new
    prompt, from any thread, ends a stream that is not exhausted, and the next step of that stream
    raises ``RuntimeError``. You may also abandon a stream. Ctrl-C stops the work within a token and
    leaves the object usable.

    On the CPU, a forked child may use its parent's object, unless another thread was at work during
    the fork. What the child cannot use raises ``RuntimeError``. When the interpreter ends, work in
    a daemon thread is stopped with ``SystemExit``.

    Args: Model
        model_path: The GGUF language model.
        mmproj: The GGUF projector, or ``False`` for text only. Default: the only ``mmproj*.gguf``
            in the model's folder.
        chat_template: A name from ``lookm_cpp.chat_templates()``, a file, or Jinja text. Required
            if the model has none; LLaVA-1.5's is ``"vicuna"``. Default: the model's own.
        n_gpu_layers: Number of layers on the accelerator; -1 for all. Default: -1.
        rpc_servers: Machines that run llama.cpp's ``ggml-rpc-server``, as
            ``"host:port,host:port"``. They hold some of the layers with their caches, and compress
            these. If a server dies later, this process ends. Default: none.
        tensor_split: Fraction of the layers for each device, RPC servers first. Default: in
            proportion to their free memory.
        split_mode: ``"layer"``, ``"row"`` (the weights of a layer on several devices, where a
            device can), or ``"none"``: all on ``main_gpu``. Default: ``"layer"``.
        main_gpu: Number of the device that takes what is not split. Default: 0.
        use_mmap: Map the model's file into memory instead of reading it. Default: ``True``.
        use_mlock: Keep the weights from being swapped out. Default: ``False``.
        lora_path: A LoRA adapter of the language model, as a GGUF file. Default: none.
        lora_scale: By how much it counts. Default: 1.
        check_files: Open files that were not seen before in a child process first, because
            llama.cpp aborts on many damaged files (``docs/models.md``). ``False`` is for files that
            you trust. Default: ``True``.
        verbose: Let llama.cpp write its log to stderr. Default: ``False``.

    Args: Context
        n_ctx: Maximum number of cells for a prompt and its answer, in steps of 256. Default: 0, the
            length that the model was trained with.
        n_batch: Maximum number of tokens passed to llama.cpp at once. Default: 2048.
        n_ubatch: Maximum number of tokens computed at once. Default: 512.
        rope_freq_base: Base of the rotary embedding. Default: 0, the model's own.
        rope_freq_scale: Its factor, to go beyond the trained length. Default: 0, the model's own.
        flash_attn: ``True``, ``False`` or ``"auto"``, which is llama.cpp's choice. Default:
            ``"auto"``.

    Args: Cache
        type_k: Type of the K cache, by llama.cpp's name. Default: ``"f16"``.
        type_v: Type of the V cache. Default: ``"f16"``.
        kept_type_k: Type that K is converted to after compression, for example ``"q8_0"``. Reading
            is as fast as with ``type_k``, and the answer needs less memory. Not for conversations.
            Default: ``type_k``.
        kept_type_v: The same for V. With a quantized V the answer uses flash attention, regardless
            of ``flash_attn``. Default: ``type_v``.
        kv_cells: Maximum number of cells in use at any time, however long the prompt and its answer
            are. Cached cells are squeezed while the prompt is read. llama.cpp allocates cells in
            steps of 256. See ``docs/long_prompts.md``. Default: no cap.
        kv_memory: The same cap in bytes of the KV buffers, as a number or a text such as
            ``"512MiB"``. Give this or ``kv_cells``. Default: no cap.
        prefix_memory: Bytes of host memory for the beginnings of prompts, up to the last image or
            context, in full: a prompt that begins as an earlier one did is read from there on. The
            one used least recently goes first. 0 keeps none. Default: ``"1GiB"``.
        prefix_type: Type of their K and V in host memory, for example ``"q8_0"``, which takes half
            of the bytes of f16, or ``"q4_0"``, a quarter. Answers then differ a little from those
            of prompts that are read from their start. Default: that of the cache, which keeps them
            exactly.
        image_cache: Bytes for encoded images: one that comes again in any prompt is not encoded
            again. 0 keeps none. Default: ``"256MiB"``.
        shrink: Allocate only the cells that are needed: those of the prompt while it is read, then
            the kept cells and ``max_tokens`` more. The rest goes back to the system. ``False``
            allocates ``n_ctx`` cells once. Default: ``True``.

    Args: Compression
        compression: How to compress, in one ``lookm_cpp.Compression``. Every field of it is an
            argument as well, and replaces the field. Default: ``Compression()``.
        kv_ratio: Fraction of a prompt's cells to keep, in (0, 1]. ``"auto"`` finds the smallest one
            that holds ``quality`` of the prompt's attention, from ``ratio_floor`` to
            ``ratio_ceiling``; see ``docs/methods.md``. Default: 1, which keeps all.
        method: A name from ``lookm_cpp.methods()``. Default: ``"lookm_plus"``.
        compute_bytes: Maximum memory for scoring and compression on a device, at least 1 MiB. The
            scores themselves (4 bytes for each cell, layer and KV head) are not counted. The
            kept rows of one KV head are held even if they alone exceed it. Default: 64 MiB.

    Args: Images, threads and sampling
        max_pixels: Maximum number of pixels of an image. A larger image is refused before it is
            decoded. Decoding takes about seven bytes a pixel. Default: 8192 x 8192, enough for
            64-megapixel cameras.
        n_threads: Number of CPU threads. Default: ``None``, one for each physical core.
        seed: Random seed of the sampler, and of the method ``random``. Default: a new seed for each
            answer, and 0 for ``random``.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: An argument is out of range; a file is damaged or not a GGUF; model and
            projector do not belong together; the model has no chat template; or its folder does not
            hold exactly one projector.
        MemoryError: The model does not fit into memory or into a limit (``ulimit``, cgroup).
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
        super().__init__(model_path, mmproj=mmproj, **options)

    @overload
    def create_chat_completion(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        stream: Literal[False] = False,
        **options: Unpack[CompletionOptions],
    ) -> ChatCompletion: ...
    @overload
    def create_chat_completion(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        stream: Literal[True],
        **options: Unpack[CompletionOptions],
    ) -> Iterator[ChatCompletionChunk]: ...
    def create_chat_completion(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        stream: bool = False,
        **options: Unpack[CompletionOptions],
    ) -> ChatCompletion | Iterator[ChatCompletionChunk]:
        """Answer a conversation of OpenAI-style messages.

        The prompt is read before the call returns, also with ``stream=True``.

        Args:
            messages: Dicts with ``role`` and ``content``. The content is a string, or a list of
                parts ``{"type": "text", "text": ...}`` and
                ``{"type": "image_url", "image_url": IMAGE}``. ``IMAGE``, or ``{"url": IMAGE}``, is
                a file path, a ``file://`` or ``data:`` URI, bytes, a PIL image or an array
                (``lookm_cpp.images.ImageLike``). Any message may hold several images. In ollama's
                form, a message has ``images`` next to ``content``; they come before the text. The
                cells of a text part with ``"evictable": True`` may be evicted like those of an
                image, and control tokens in it are read as text. ``tool_calls``, ``tool_call_id``,
                ``name`` and ``reasoning_content`` go to the chat template. ``detail``,
                ``cache_control`` and ``annotations`` have no effect. Any other key with a value is
                an error.
            stream: Return an iterator over the pieces of the answer.
            max_tokens: Maximum number of tokens in the answer. ``None`` or a number below 1: as
                many as fit into the context. With ``kv_cells``, whose answers never run out of
                cells, that is ``n_ctx``. Default: ``None``.
            temperature: Sampling temperature; 0 is greedy. Default: 0.2. ``None`` means the
                default, for all options up to ``seed`` as well.
            top_p: Nucleus sampling. Default: 0.95.
            top_k: Sample among this many tokens. Default: 40.
            min_p: Minimum probability of a token, relative to the most likely one. Default: 0.05.
            typical_p: Locally typical sampling. Default: 1, off.
            repeat_penalty: As in llama.cpp. Default: 1, no penalty.
            frequency_penalty: As in llama.cpp. Default: 0, no penalty.
            presence_penalty: As in llama.cpp. Default: 0, no penalty.
            mirostat_mode: 1 or 2 for Mirostat, in place of ``top_k``, ``top_p``, ``min_p`` and
                ``typical_p``. Default: 0, off.
            mirostat_tau: Its target entropy. Default: 5.
            mirostat_eta: Its learning rate. Default: 0.1.
            logit_bias: Numbers that are added to the logits of tokens, by token; ``-inf`` rules a
                token out. Default: none.
            response_format: What the answer has to be: ``{"type": "json_object"}``, or
                ``{"type": "json_schema", "json_schema": {"schema": ...}}`` for JSON of a schema, as
                OpenAI has it; llama-cpp-python's ``{"type": "json_object", "schema": ...}`` is the
                same. Default: any text.
            grammar: A GBNF grammar that the answer has to match, with a rule ``root``. Default:
                none.
            seed: Random seed of this answer. Default: the object's.
            stop: One string or several that end the answer. They are not part of it. Default: none.
            tools: Functions that the answer may call, in OpenAI's form
                (``lookm_cpp.tools.Tool``). The chat template says how; a call is constrained to the
                function's schema. Default: none.
            tool_choice: ``"auto"``, ``"none"``, ``"required"``, or
                ``{"type": "function", "function": {"name": ...}}`` for one that must be called.
                Default: ``"auto"``.
            parallel_tool_calls: Whether an answer may have several calls. Default: as the template
                can.
            chat_template_kwargs: Variables for the chat template, such as
                ``{"enable_thinking": False}``. Default: none.
            n: Number of answers. Each has a seed of its own, counted from ``seed``. Default: 1.
            logprobs: Give the log-probability of each token of the answer, as the model has it
                before temperature, penalties and grammars. Default: ``False``.
            top_logprobs: Number of the likeliest tokens to give beside each, up to 20. Default: 0.
            stream_options: ``{"include_usage": True}`` ends a stream with the numbers of tokens.
                Default: none.
            user: Has no effect.
            compression: A ``lookm_cpp.Compression`` for this prompt. Default: the object's.
            kv_ratio: For this prompt, in place of the object's; likewise ``method`` and the other
                fields of ``Compression``. If you give one of the three ratios, it replaces all
                three.
            reuse: Go on from the cells of an earlier prompt that began in the same way, up to its
                last image or context at most, and keep those of this one (``prefix_memory``). The
                answer does not change. Default: ``True``.
            progress: Called as ``progress(phase, done, total)`` between steps. The phases are
                ``"encode"`` (images, or the tiles that a model cuts them into), ``"prefill"``
                (cells) and ``"compress"`` (layers). An exception that it raises ends the call.

        Returns:
            A dict of the form ``ChatCompletion``, or an iterator of ``ChatCompletionChunk``: first
            the role, then pieces, at the end a ``finish_reason``. What the chat template marks as
            reasoning is in ``reasoning_content``, apart from ``content``.

        Raises:
            ValueError: Messages, images or arguments are invalid, the prompt does not fit into the
                context, or the object is closed.
            FileNotFoundError: An image file does not exist.
            TypeError: An image has a type that is not supported, or an option does not exist.
            RuntimeError: llama.cpp failed.
        """
        self._check_open()
        given: dict[str, Any] = {**options}
        form = CompletionForm.taken_from(given)
        request = self._request(messages, cast("CompletionOptions", given))
        reply = ChatReply(self._name)
        return (
            self._completer.stream(request, form, reply)
            if flag("stream", stream)
            else self._completer.whole(request, form, reply)
        )

    def ask(
        self,
        question: str,
        images: Images = (),
        *,
        context: str | Sequence[str] | None = None,
        system: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> AnswerText:
        """Answer one question about images, greedily by default.

        White space around the answer is removed. What a model writes as its reasoning is not part
        of it.

        Args:
            question: Each ``<image>`` stands for one image. Without ``<image>``, the images come
                before the question.
            images: File paths, URIs, bytes, PIL images or arrays (``lookm_cpp.images.ImageLike``).
                A single image needs no list.
            context: One long text or several. They come first, each followed by a line break. Their
                cells may be evicted like those of an image; methods that keep text first do not
                evict the question.
            system: A system message, before everything else.
            **options: The options of ``create_chat_completion``, except those that concern what it
                returns (``stream``, ``n``, ``logprobs``) and tools. The default of ``temperature``
                is 0.

        Returns:
            A ``str`` that also has the ``stats`` of this prompt and a ``finish_reason``
            (``lookm_cpp.AnswerText``).

        Raises:
            ValueError: The numbers of ``<image>`` and of images differ, or as in
                ``create_chat_completion``.
            FileNotFoundError: An image file does not exist.
            TypeError: An image has a type that is not supported.
        """
        for name in OF_COMPLETIONS:
            if name in options:
                raise ValueError(
                    f"{name} is given to ask, which returns a str, expected create_chat_completion"
                )
        options["temperature"] = greedy_unless(options.get("temperature"))
        messages = question_messages(question, images, contexts_of(context), system)
        return AnswerText.of_completion(self.create_chat_completion(messages, **options))

    def read(
        self,
        text: str | Sequence[Mapping[str, Any]],
        images: Images = (),
        *,
        context: str | Sequence[str] | None = None,
        system: str | None = None,
        progress: Progress | None = None,
        **options: Unpack[CompressionOverrides],
    ) -> Prefix:
        """Read the beginning of a prompt once, for any number of questions about it.

        ``prefix.ask(question)`` answers as ``ask(f"{text} {question}", images)`` does, but reads
        the question alone. What is kept ends with the last image or context; text after it is read
        with each question.

        ``ask`` and ``create_chat_completion`` do the same by themselves where a prompt begins as an
        earlier one did.

        Args:
            text: As ``question`` of ``ask``: each ``<image>`` stands for one image. Or messages, as
                in ``create_chat_completion``.
            images: As in ``ask``; not with messages.
            context: As in ``ask``; not with messages.
            system: As in ``ask``; not with messages.
            progress: As in ``create_chat_completion``.
            **options: ``compression``, or fields of one: what questions will be compressed by, as
                far as it is known. A method that scores all queries has to see those of the prefix.
                Default: the object's.

        Raises:
            ValueError: There is neither an image nor a context, ``prefix_memory`` does not hold the
                cells, or as in ``ask``.

        >>> with Llava.embedded(kv_ratio=0.5) as llm:
        ...     pictures = [embedded.DEMO / "pic03.png", embedded.DEMO / "pic08.png"]
        ...     prefix = llm.read("Image 1:<image> Image 2:<image>", pictures)
        ...     prefix.ask("What is in image 2?"), llm.stats.reused_cells == prefix.cells
        ('Image 2 shows an owl.', True)
        """
        self._check_open()
        if isinstance(text, str):
            messages: Sequence[Mapping[str, Any]] = question_messages(
                text, images, contexts_of(context), system
            )
        else:
            messages = messages_alone(text, images=images, context=context, system=system)
        given: dict[str, Any] = {**options}
        compression = compression_of(self._compression, given)
        for name in given:
            raise TypeError(f"{name} is not an option of a prefix")
        request = self._request(messages, {"compression": compression, "progress": progress})
        with self._turns.hold():
            self._check_open()
            request.keep(self._session)
            stats = Stats(**self._session.stats)
        return Prefix(self, self._place(), request, messages, stats)

    def load_prefix(self, path: str | os.PathLike[str]) -> Prefix:
        """Restore the prefix that ``Prefix.save`` wrote; its images are in the file.

        It must have been made with the same model files, chat template, cache types,
        ``prefix_type`` and flash attention.

        Raises:
            ValueError: The file does not hold a prefix, is damaged, was made with another model or
                other settings, or ``prefix_memory`` does not hold its cells.
            OSError: The file cannot be read.
        """
        self._check_open()
        return Prefix.load(path, self, self._place(), lambda messages: self._request(messages, {}))

    def compare(
        self,
        question: str,
        images: Images = (),
        *,
        context: str | Sequence[str] | None = None,
        system: str | None = None,
        **options: Unpack[ChatOptions],
    ) -> Comparison:
        """Answer with the full and with the compressed cache, and say how close the two are.

        ``comparison.fidelity`` needs no right answers: both caches read the full cache's answer,
        and their predictions of each next token are compared.

        Args:
            question: As in ``ask``.
            images: As in ``ask``.
            context: As in ``ask``.
            system: As in ``ask``.
            **options: As in ``ask``. The default of ``kv_ratio`` is the object's, or 0.2 if that
                keeps all cells.

        Raises:
            ValueError: The object has a cap (``kv_cells``, ``kv_memory``), or as in ``ask``.

        >>> with Llava.embedded() as llm:
        ...     pictures = [embedded.DEMO / "pic03.png", embedded.DEMO / "pic08.png"]
        ...     found = llm.compare("Image 1:<image> Image 2:<image> What is in image 2?", pictures)
        >>> found.compressed.answer, found.fidelity.top1_agreement
        ('Image 2 shows an owl.', 1.0)
        """
        self._check_open()
        if self.kv_cells is not None:
            raise ValueError(
                f"compare needs the full cache, but kv_cells is {self.kv_cells}, expected no cap"
            )
        self._set_defaults(options, COMPARED_RATIO)
        messages = question_messages(question, images, contexts_of(context), system)
        compressed = self._request(messages, options)
        whole = compression_of(self._compression, {**options}).override(kv_ratio=1.0)
        full = replace(compressed, compression=whole.core(method_seed(compressed.sampling)))
        with self._turns.hold():
            self._check_open()
            found = compare_caches(self._session, full, compressed)
            self._completer.stats = found.compressed.stats
            return found

    def explain(
        self,
        question: str | Sequence[Mapping[str, Any]],
        images: Images = (),
        *,
        context: str | Sequence[str] | None = None,
        system: str | None = None,
        methods: Sequence[str] = METHODS,
        **options: Unpack[ChatOptions],
    ) -> Explanation:
        """Answer with the full cache and with each method, and record what happens to every cell.

        ``explanation.save("report.html")`` writes a page with heat maps over the images, and
        ``explanation.save("report.png")`` a picture of them.

        Args:
            question: As in ``ask``. Or messages, as in ``create_chat_completion``, such as the
                ``messages`` of ``chat(keep="all")`` up to a question.
            images: As in ``ask``; not with messages.
            context: As in ``ask``; not with messages.
            system: As in ``ask``; not with messages.
            methods: Names from ``lookm_cpp.methods()``. Default: ``lookm_plus``,
                ``text_prior_pivot_merge`` and ``snapkv``.
            **options: As in ``ask``, without ``method``. The default of ``kv_ratio`` is the
                object's, or 0.2 if that keeps all cells.

        Raises:
            ValueError: ``methods`` is empty or names a method twice, or as in ``ask``.

        >>> with Llava.embedded() as llm:
        ...     pictures = [embedded.DEMO / "pic03.png", embedded.DEMO / "pic08.png"]
        ...     found = llm.explain("<image> <image> What is in image 2?", pictures,
        ...                         methods=["h2o"])
        >>> found.grid(1, found.methods[0].share_kept()).shape
        (8, 8)
        """
        self._set_defaults(options, KV_RATIO)
        self._check_open()
        messages: Sequence[Mapping[str, Any]]
        if isinstance(question, str):
            pictures = upright_images(images, self._max_pixels)
            messages = question_messages(question, pictures, contexts_of(context), system)
        else:
            messages = messages_alone(question, images=images, context=context, system=system)
            self._request(messages, options)  # checks them
            given: list[ImageLike] = []
            with_images(messages, given.append)
            pictures = upright_images(given, self._max_pixels)
            left = iter(pictures)
            messages = with_images(messages, lambda _: next(left))
            question = last_text(messages)
        shown = Shown(self._name, question, pictures)
        return explain_methods(
            lambda given: self._explained(messages, given), shown, methods, options
        )

    def _set_defaults(self, options: ChatOptions, ratio: float) -> None:
        """Make an answer greedy, and a prompt compressed to ``ratio``, if nothing else is given."""
        options["temperature"] = greedy_unless(options.get("temperature"))
        given = [options.get(name) for name in ("compression", *RATIOS)]
        if not self._compression.has_ratio and all(value is None for value in given):
            options["kv_ratio"] = ratio

    def _explained(self, messages: Sequence[Mapping[str, Any]], options: ChatOptions) -> Outcome:
        request = self._request(messages, options)
        with self._turns.hold():
            self._check_open()
            answer = request.begin(self._session, explain=True)
            found, stats = self._session.explanation, Stats(**self._session.stats)
            self._completer.stats = stats
            if found is None:
                raise RuntimeError("the session did not record the prompt that it should explain")
            return Outcome(content_of(answer, request.prompt), stats, found)

    @overload
    def chat(
        self,
        *,
        system: str | None = None,
        keep: Literal["compressed"] = "compressed",
        **options: Unpack[CompressionOverrides],
    ) -> Chat: ...
    @overload
    def chat(
        self,
        *,
        system: str | None = None,
        keep: Literal["all"],
        messages: Sequence[Mapping[str, Any]] = (),
        **options: Unpack[CompressionOverrides],
    ) -> FullChat: ...
    def chat(
        self,
        *,
        system: str | None = None,
        keep: Literal["compressed", "all"] = "compressed",
        messages: Sequence[Mapping[str, Any]] = (),
        **options: Unpack[CompressionOverrides],
    ) -> Chat | FullChat:
        """Start a conversation.

        Args:
            system: A system message, before everything else, if the chat template supports one.
            keep: What stays of earlier turns. ``"compressed"``: ``kv_ratio`` of all cells, and the
                rest is gone (``Chat``). ``"all"``: everything, in host memory, and each answer is
                compressed for its own question (``FullChat``).
            messages: What was said before, as ``messages`` of such a conversation has it; only with
                ``keep="all"``.
            **options: ``compression``, or fields of one, for all turns. Default: the object's.

        Raises:
            ValueError: An option or a message is invalid.

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
            raise TypeError(f"{name} is not an option of a conversation")
        self._session.check(compression.core())
        if keep == "all":
            if messages:
                self._request(messages, {})  # checks them
            return FullChat(self, compression, system, messages)
        if keep != "compressed":
            raise ValueError(f"keep is {brief(keep)}, expected 'compressed' or 'all'")
        if messages:
            raise ValueError("messages are given with keep='compressed', expected keep='all'")
        return Chat(self._place(), compression, system)

    def load_state(self, path: str | os.PathLike[str]) -> Chat:
        """Restore the conversation that ``Chat.save`` wrote.

        It must have been made with the same files, chat template, cache types and flash attention.

        Raises:
            ValueError: The file does not hold a conversation, is damaged, was made with another
                model or other settings, or its cells do not fit.
            OSError: The file cannot be read.
        """
        self._check_open()
        return Chat.load(path, self._place())
