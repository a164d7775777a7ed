"""Prefixes: what a prompt goes on from, and that its answer is that of the prompt alone."""

from __future__ import annotations

import base64
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_session import Session
from hypothesis import given, settings
from hypothesis import strategies as st
from lookm_cpp import Compression, Llava
from lookm_cpp.chat import question_messages
from lookm_cpp.embedded import DEMO, MMPROJ, MODEL
from lookm_cpp.images import Picture
from lookm_cpp.known_images import Known, KnownImages
from lookm_cpp.options import LlavaOptions
from PIL import Image

PICTURES = [str(DEMO / f"pic{i:02}.png") for i in range(1, 9)]
TEXT = " ".join(f"Image {i}:<image>" for i in range(1, 9))
QUESTIONS = ["What is in image 2?", "Which corner of image 4 shows the panda?", "Describe image 7."]
NOTES = "The code of Anna is 4821. The code of Ivan is 8801. " * 5
EVERY_METHOD = ["lookm_plus", "h2o", "roco", "text_prior_pivot_merge", "snapkv"]


def alone(llm: Llava, question: str, **options: Any) -> str:
    return llm.ask(f"{TEXT} {question}", PICTURES, reuse=False, **options)


@pytest.mark.parametrize(
    "options", [{}, {"flash_attn": False}, {"type_k": "q8_0"}, {"n_batch": 64}]
)
def test_answers_are_those_of_the_whole_prompt(options: Any) -> None:
    with Llava.embedded(kv_ratio=0.2, **options) as llm:
        prefix = llm.read(TEXT, PICTURES, system=None)
        for question in QUESTIONS:
            right = alone(llm, question)
            held = llm.stats.attention_held
            assert prefix.ask(question) == right
            assert llm.stats.reused_cells == prefix.cells > 500
            assert llm.stats.attention_held == held
            assert "".join(prefix.stream(question)).strip() == right


@pytest.mark.parametrize(("kept", "ratio"), [(None, 0.2), ("q8_0", 0.5)])
def test_on_every_backend(
    backend: LlavaOptions, tmp_path: Path, kept: str | None, ratio: float
) -> None:
    """The cells are in host memory, wherever the cache lies.

    In q8_0 they are not quite the same, so that fewer of them may be evicted.
    """
    options: LlavaOptions = {**backend, "kv_ratio": ratio, "prefix_type": kept}
    with Llava.embedded(**options) as llm:
        prefix = llm.read(TEXT, PICTURES)
        right = alone(llm, QUESTIONS[0])
        assert prefix.ask(QUESTIONS[0]) == right
        assert llm.stats.reused_cells == prefix.cells
        prefix.save(tmp_path / "prefix")
    with Llava.embedded(**options) as llm:
        assert llm.load_prefix(tmp_path / "prefix").ask(QUESTIONS[0]) == right
        assert llm.stats.reused_cells == prefix.cells


@pytest.mark.parametrize("method", EVERY_METHOD)
@pytest.mark.parametrize("context", [None, NOTES])
def test_every_method(method: str, context: str | None) -> None:
    """Also one whose sums are those of all queries, and one whose window reaches into a picture."""
    options: Any = {"method": method, "context": context, "kv_ratio": 0.3}
    with Llava.embedded() as llm:
        llm.ask(f"{TEXT} {QUESTIONS[1]}", PICTURES, **options)
        assert llm.stats.reused_cells == 0
        reused = llm.ask(f"{TEXT} {QUESTIONS[0]}", PICTURES, **options)
        stats = llm.stats
        assert 0 < stats.reused_cells < stats.prompt_cells
        assert reused == alone(llm, QUESTIONS[0], **options)
        for name in ("prompt_cells", "kept_cells", "kept_text_cells"):
            assert getattr(stats, name) == getattr(llm.stats, name), name
        # a window that reaches into a picture goes on from a part of them, in other batches
        exact = 0.0 if method != "snapkv" else 1e-5
        assert stats.attention_held == pytest.approx(llm.stats.attention_held, rel=exact, abs=0)


def test_sums_of_all_queries_are_read_for() -> None:
    """What was kept without them does not serve a method that needs them."""
    with Llava.embedded(kv_ratio=0.3) as llm:
        prefix = llm.read(TEXT, PICTURES)
        first = prefix.ask(QUESTIONS[0], method="h2o")
        assert llm.stats.reused_cells == 0
        assert prefix.ask(QUESTIONS[0], method="h2o") == first
        assert llm.stats.reused_cells == prefix.cells
        # sums without squares
        prefix.ask(QUESTIONS[0], method="roco")
        assert llm.stats.reused_cells == 0


def test_sums_of_some_queries_are_not_those_of_all() -> None:
    """A window that begins exactly where a prefix ended."""
    with Llava.embedded(kv_ratio=0.3) as llm:
        cells = llm.read(TEXT, PICTURES).cells
        more = f"{TEXT} Image 9:<image> {QUESTIONS[0]}"
        llm.ask(more, [*PICTURES, PICTURES[0]], reuse=False)
        window = llm.stats.prompt_cells - cells
        llm.ask(more, [*PICTURES, PICTURES[0]], method="snapkv", window=window)
        assert llm.stats.reused_cells == cells
        by_sums = llm.ask(more, [*PICTURES, PICTURES[0]], method="h2o")
        assert llm.stats.reused_cells == 0
        assert by_sums == llm.ask(more, [*PICTURES, PICTURES[0]], method="h2o", reuse=False)


def test_a_chat_goes_on_where_it_began() -> None:
    """Another turn, and one with a new picture, are read from the last common picture on."""
    with Llava.embedded(kv_ratio=0.3) as llm:
        content = [
            {"type": "text", "text": "Image 1:"},
            {"type": "image_url", "image_url": PICTURES[2]},
            {"type": "text", "text": " What is in image 1?"},
        ]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        llm.create_chat_completion(messages, temperature=0.0)
        read = llm.stats.prompt_cells
        messages += [
            {"role": "assistant", "content": "Image 1 shows an umbrella."},
            {"role": "user", "content": "Again?"},
        ]
        answers = [
            llm.create_chat_completion(messages, temperature=0.0, reuse=reuse)["choices"]
            for reuse in (True, False)
        ]
        assert answers[0] == answers[1]
        prefix = llm.read("Image 1:<image>", PICTURES[2])
        assert prefix.cells < read
        more = prefix.create_chat_completion(
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": " Image 2:"},
                        {"type": "image_url", "image_url": PICTURES[7]},
                        {"type": "text", "text": " What is in image 2?"},
                    ],
                }
            ],
            temperature=0.0,
        )
        assert llm.stats.reused_cells == prefix.cells
        pair = llm.ask(
            "Image 1:<image> Image 2:<image> What is in image 2?",
            [PICTURES[2], PICTURES[7]],
            reuse=False,
        )
        assert more["choices"][0]["message"]["content"].strip() == pair


def test_a_prompt_that_departs_earlier() -> None:
    """Pictures that are the same up to the fourth are reused, if the method allows it."""
    others = [*PICTURES[:4], *PICTURES[:3:-1]]
    with Llava.embedded(kv_ratio=0.3) as llm:
        prefix = llm.read(TEXT, PICTURES)
        reused = llm.ask(f"{TEXT} {QUESTIONS[0]}", others)
        assert 4 * 64 < llm.stats.reused_cells < prefix.cells
        assert reused == llm.ask(f"{TEXT} {QUESTIONS[0]}", others, reuse=False)


def test_pixels_decide_and_not_names(tmp_path: Path) -> None:
    changed = tmp_path / "a.png"
    Image.open(PICTURES[2]).save(changed)
    with Llava.embedded() as llm:
        prefix = llm.read("Image 1:<image>", str(changed))
        assert prefix.ask("What is in image 1?") == "Image 1 shows an umbrella."
        Image.open(PICTURES[7]).save(changed)
        assert prefix.ask("What is in image 1?") == "Image 1 shows an owl."
        assert llm.stats.reused_cells < prefix.cells
        pixels = np.asarray(Image.open(PICTURES[7]).convert("RGB"))
        llm.ask("Image 1:<image> What is it?", pixels)
        assert llm.stats.reused_cells == prefix.cells


def test_the_least_recently_used_goes_first() -> None:
    with Llava.embedded() as llm:
        one = llm.read("Image 1:<image>", PICTURES[0])
        size = llm._session.prefix_bytes
    with Llava.embedded(prefix_memory=2 * size + size // 2) as llm:
        prefixes = [llm.read("Image 1:<image>", picture) for picture in PICTURES[:3]]
        assert llm._session.prefix_count == 2
        reused = []
        for prefix in (prefixes[2], prefixes[1], prefixes[0], prefixes[1], prefixes[2]):
            prefix.ask("What is in image 1?")
            reused.append(llm.stats.reused_cells == one.cells)
        assert reused == [True, True, False, True, False]
        assert llm._session.prefix_bytes <= 2 * size + size // 2


def test_nothing_is_kept_without_memory() -> None:
    with Llava.embedded(prefix_memory=0, image_cache=0) as llm:
        for _ in range(2):
            llm.ask(f"{TEXT} {QUESTIONS[0]}", PICTURES)
            assert llm.stats.reused_cells == llm.stats.reused_image_cells == 0
        with pytest.raises(ValueError, match="prefix_memory: 0 bytes, expected at least"):
            llm.read(TEXT, PICTURES)
    with pytest.raises(ValueError, match="prefix_memory is -1"):
        Llava.embedded(prefix_memory=-1)


def test_a_prefix_needs_what_can_be_recognized() -> None:
    with Llava.embedded() as llm:
        with pytest.raises(ValueError, match="no image and no context"):
            llm.read("Hello")
        prefix = llm.read("Who?", context=NOTES)
        assert prefix.ask("Is it Anna?") == llm.ask("Who? Is it Anna?", context=NOTES, reuse=False)
        assert prefix.ask("") == llm.ask("Who? ", context=NOTES, reuse=False)
        with pytest.raises(ValueError, match="question is 3"):
            prefix.ask(3)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="messages is empty"):
            prefix.create_chat_completion([])
        for more in ({"images": [PICTURES[0]]}, {"content": None}):
            with pytest.raises(ValueError, match="expected role and content alone"):
                prefix.create_chat_completion([{"role": "user", "content": "Who?", **more}])
        with pytest.raises(ValueError, match="messages"):
            prefix.create_chat_completion(["Who?"])  # type: ignore[list-item]
        with pytest.raises(ValueError, match="reuse is 1"):
            llm.ask("Who?", reuse=1)  # type: ignore[arg-type]


def test_an_image_is_encoded_once() -> None:
    """Wherever it stands; the answer does not change."""
    with Llava.embedded(prefix_memory=0) as llm:
        for text, known in (("A:<image> B:<image> What?", 0), ("B:<image> A:<image> What?", 128)):
            pair = PICTURES[:2] if known == 0 else PICTURES[1::-1]
            found = llm.ask(text, pair)
            assert llm.stats.reused_image_cells == known
            assert (llm.stats.encode_seconds == 0) == (known > 0)
            with Llava.embedded(prefix_memory=0, image_cache=0) as other:
                assert other.ask(text, pair) == found


def test_under_a_cap_nothing_is_kept() -> None:
    """A prompt that is squeezed while it is read was never there as a whole."""
    with Llava.embedded(kv_cells=300) as llm:
        for _ in range(2):
            llm.ask(f"{TEXT} {QUESTIONS[0]}", PICTURES, max_tokens=16)
            assert llm.stats.squeezed_cells > 0
            assert llm.stats.reused_cells == 0


def test_reading_shows_its_progress_and_can_be_stopped() -> None:
    seen: list[tuple[str, int, int]] = []
    with Llava.embedded() as llm:
        prefix = llm.read(
            TEXT, PICTURES, progress=lambda phase, done, total: seen.append((phase, done, total))
        )
        assert seen[-1] == ("prefill", prefix.cells, prefix.cells)
        assert [done for phase, done, _ in seen if phase == "encode"] == [*range(1, 9)]

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            llm.read("Image 1:<image>", PICTURES[5], progress=stop)
        assert prefix.ask(QUESTIONS[0]) == alone(llm, QUESTIONS[0])
        with pytest.raises(TypeError, match="temperature is not an option of a prefix"):
            llm.read(TEXT, PICTURES, temperature=1)  # type: ignore[call-arg]


def photo(path: Path, seed: int, size: tuple[int, int] = (320, 200)) -> str:
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return str(path)


def test_an_image_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second question decodes nothing, whether the image comes as a file, bytes or a URI."""
    files = [photo(tmp_path / f"{i}.png", i) for i in range(2)]
    decoded: list[str] = []
    pixels = Picture.pixels

    def counted(self: Picture) -> Any:
        decoded.append(self._label)
        return pixels(self)

    monkeypatch.setattr(Picture, "pixels", counted)
    text = "Image 1:<image> Image 2:<image>"
    data = base64.b64encode(Path(files[1]).read_bytes()).decode()
    with Llava.embedded(kv_ratio=0.5, image_cache=0) as llm:
        prefix = llm.read(text, files)
        assert len(decoded) == 2
        decoded.clear()
        answers = [
            prefix.ask(QUESTIONS[0]),
            llm.ask(
                f"{text} {QUESTIONS[0]}", [Path(files[0]).read_bytes(), f"data:;base64,{data}"]
            ),
        ]
        assert decoded == []
        assert llm.stats.reused_cells == prefix.cells
        # needed again, as neither cells nor embeddings are there
        answers.append(llm.ask(f"{text} {QUESTIONS[0]}", files, reuse=False))
        assert len(decoded) == 2
        assert answers == [answers[0]] * 3


def test_a_file_that_changes_is_decoded_again(tmp_path: Path) -> None:
    changing = tmp_path / "screen.png"
    with Llava.embedded() as llm:
        for number in (3, 8, 3):
            Image.open(PICTURES[number - 1]).save(changing)
            found = llm.ask("Image 1:<image> What is in image 1?", str(changing))
            pixels = np.asarray(Image.open(PICTURES[number - 1]).convert("RGB"))
            assert found == llm.ask("Image 1:<image> What is in image 1?", pixels, reuse=False)


def test_known_images_are_forgotten_in_the_order_of_their_use() -> None:
    known = KnownImages(n_most=2)
    for key in (b"a", b"b"):
        known.put(key, Known(key.decode(), 1, 1))
    assert known.get(b"a") == Known("a", 1, 1)
    known.put(b"c", Known("c", 1, 1))
    assert [known.get(key) is None for key in (b"a", b"b", b"c")] == [False, True, False]


@pytest.mark.parametrize("kept", ["f16", "f32"])
def test_wider_types_keep_prefixes_exactly(kept: str) -> None:
    with Llava.embedded(kv_ratio=0.2, prefix_type=kept) as llm:
        prefix = llm.read(TEXT, PICTURES)
        held = llm._session.prefix_bytes / prefix.stats.kv_bytes_used_before
        assert held == pytest.approx({"f16": 1.0, "f32": 2.0}[kept], rel=0.1)
        for question in QUESTIONS:
            assert prefix.ask(question) == alone(llm, question)


@pytest.mark.parametrize("options", [{}, {"flash_attn": "off"}, {"type_k": "q8_0"}])
@pytest.mark.parametrize(("kept", "share", "off"), [("q8_0", 17 / 32, 0.01), ("q4_0", 9 / 32, 0.1)])
def test_narrower_types_keep_prefixes_in_fewer_bytes(
    kept: str, share: float, off: float, options: Any
) -> None:
    """17 and 9 bytes for 16 values of two; predictions move as little as the values do."""
    images = [np.asarray(Image.open(picture).convert("RGB")) for picture in PICTURES]
    found = {}
    for kept_type in ("", kept):
        session = Session(str(MODEL), str(MMPROJ), n_threads=1, prefix_type=kept_type, **options)
        prompt = f"{TEXT} {QUESTIONS[0]}".replace("<image>", session.media_marker)
        session.keep_prefix(prompt, images)
        n_cells = session.stats["prompt_cells"]
        session.prefill(prompt, images, reuse=True)
        assert session.stats["reused_cells"] == n_cells
        found[kept_type] = session.distributions(session.tokens_of(" Image 2 shows an owl."))
        size = session.prefix_bytes
    if not options.get("type_k"):
        assert size / (n_cells * 3072) == pytest.approx(share, rel=0.1)
    p, log_q = np.exp(found[""].astype(np.float64)), found[kept]
    divergence = (p * (found[""] - log_q)).sum(axis=1).mean()
    assert 0 < divergence < off


def test_types_that_cannot_be_kept() -> None:
    with pytest.raises(ValueError, match=r"prefix_type.*q3_k.*expected"):
        Llava.embedded(prefix_type="q3_k")


def test_a_saved_prefix(tmp_path: Path) -> None:
    """In another process's session, and without the images' files."""
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for target, source in zip(pictures, (PICTURES[2], PICTURES[7]), strict=True):
        target.write_bytes(Path(source).read_bytes())
    images: Any = [str(pictures[0]), Image.open(pictures[1])]
    text = "Image 1:<image> Image 2:<image>"
    file = tmp_path / "pictures.prefix"
    with Llava.embedded(kv_ratio=0.5) as llm:
        prefix = llm.read(text, images, system="Be brief.", method="h2o")
        prefix.save(file)
        right = prefix.ask("What is in image 2?", method="h2o")
    for picture in pictures:
        picture.unlink()
    with Llava.embedded(kv_ratio=0.5) as llm:
        restored = llm.load_prefix(file)
        assert restored.cells == restored.stats.prompt_cells == prefix.cells
        assert restored.ask("What is in image 2?", method="h2o") == right
        assert llm.stats.reused_cells == prefix.cells
        again = tmp_path / "again.prefix"
        restored.save(again)
        assert again.read_bytes() == file.read_bytes()
        # what had to make room is read again from the images in the file
        restored.ask("What is in image 1?", method="roco")
        assert llm.stats.reused_cells == 0


def test_a_saved_prefix_that_does_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "pictures.prefix"
    with Llava.embedded() as llm:
        prefix = llm.read("Image 1:<image>", PICTURES[2])
        prefix.save(file)
        chat = llm.chat()
        chat.ask("Image 1:<image> What is in image 1?", PICTURES[2])
        talk = tmp_path / "talk"
        chat.save(talk)
        with pytest.raises(ValueError, match=r"is not a saved prefix, expected .*prefix.save"):
            llm.load_prefix(talk)
        with pytest.raises(ValueError, match="is not a saved conversation"):
            llm.load_state(file)
        whole = file.read_bytes()
        for bad in (whole[:-40], whole[:200] + b"x" + whole[201:]):
            file.write_bytes(bad)
            with pytest.raises(ValueError, match="truncated or damaged"):
                llm.load_prefix(file)
        file.write_bytes(whole)
        with pytest.raises(FileNotFoundError):
            llm.load_prefix(tmp_path / "none")
    others: list[tuple[dict[str, Any], str]] = [
        ({"prefix_type": "q8_0"}, "prefix_type 'that of the cache', expected 'q8_0'"),
        ({"type_k": "q8_0"}, "with type_k 'f16', expected 'q8_0'"),
        ({"prefix_memory": 1000}, "prefix_memory: 1000 bytes, expected at least"),
        ({"chat_template": "chatml"}, "with chat_template the model's own"),
    ]
    for options, why in others:
        with Llava.embedded(**options) as llm, pytest.raises(ValueError, match=why):
            llm.load_prefix(file)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), value=st.binary(min_size=1, max_size=8))
def test_any_bytes_of_a_saved_prefix(at: float, value: bytes) -> None:
    """With a right checksum: an error, or cells that can be asked about."""
    session, prompt, images, state = saved_prefix()
    # the head, where every byte has a meaning, as often as the cells after it
    where = int(at * 2 * 600) if at < 0.5 else int(at * len(state))
    changed = state[:where] + value + state[where + len(value) :]
    try:
        session.restore_prefix(changed)
    except ValueError as error:
        why = str(error)
    else:
        why = ""
        session.prefill(prompt, images, reuse=True)
        session.start(temperature=0.0)
        session.next()
    assert not why or re.search("state|prefix_memory", why)


@cache
def saved_prefix() -> tuple[Any, str, list[Any], bytes]:
    session = Session(str(MODEL), str(MMPROJ), n_threads=1)
    images = [np.asarray(Image.open(PICTURES[0]).convert("RGB"))]
    prompt = f"Image 1:{session.media_marker} What is in image 1?"
    return session, prompt, images, session.prefix_state(prompt, images, method="h2o", kv_ratio=0.5)


def test_reading_messages() -> None:
    content = [
        {"type": "text", "text": "Image 1:"},
        {"type": "image_url", "image_url": {"url": PICTURES[2]}},
    ]
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": content},
    ]
    with Llava.embedded() as llm:
        prefix = llm.read(messages)
        right = llm.ask(
            "Image 1:<image> What is in image 1?", PICTURES[2], system="Be brief.", reuse=False
        )
        assert prefix.ask("What is in image 1?") == right
        assert llm.stats.reused_cells == prefix.cells
        answered = llm.read([*messages, {"role": "assistant", "content": "Ask."}])
        assert answered.ask("What is in image 1?")
        for bad, why in (([], r"text is \[\]"), (3, "text is 3")):
            with pytest.raises(ValueError, match=why):
                llm.read(bad)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="images is given together with messages"):
            llm.read(messages, PICTURES[2])


def test_a_conversation_that_keeps_everything(tmp_path: Path) -> None:
    """Each answer is that of the whole history as one prompt, though a file changes meanwhile."""
    screen = tmp_path / "screen.png"
    turns = [
        ("Image 1:<image> What is in image 1?", 3),
        ("Image 2:<image> What is in image 2?", 8),
        ("What is in image 1?", None),
    ]
    with Llava.embedded(kv_ratio=0.5) as llm:
        chat = llm.chat(keep="all", system="Be brief.")
        for number, (question, picture) in enumerate(turns, start=1):
            if picture is not None:
                Image.open(PICTURES[picture - 1]).save(screen)
            answer = chat.ask(question, [str(screen)] if picture else [], max_tokens=12)
            stats = chat.stats
            assert (chat.n_turns, stats.reused_cells > 0) == (number, number > 1)
            messages = chat.messages
            assert messages.pop()["content"].strip() == answer
            alone = llm.create_chat_completion(
                messages, temperature=0.0, max_tokens=12, reuse=False
            )
            assert alone["choices"][0]["message"]["content"].strip() == answer
            assert alone["choices"][0]["finish_reason"] == chat.finish_reason
            assert llm.stats.kept_cells == stats.kept_cells
        stream = chat.stream("Describe image 2.")
        begun = next(stream)
        assert chat.messages[-1] == {"role": "assistant", "content": begun}
        chat.ask("What is in image 2?")
        assert [message["role"] for message in chat.messages[-4:]] == ["user", "assistant"] * 2
        with pytest.raises(RuntimeError, match="newer prompt"):
            next(stream)
        n_turns = chat.n_turns
        with pytest.raises(ValueError, match="placeholders"):
            chat.ask("<image> <image>", PICTURES[0])
        assert (chat.n_turns, len(chat.messages)) == (n_turns, 1 + 2 * n_turns)
        with pytest.raises(ValueError, match="keep is 'some', expected"):
            llm.chat(keep="some")  # type: ignore[call-overload]


def test_a_saved_prefix_holds_nothing_that_came_after_it(tmp_path: Path) -> None:
    """A longer prompt has taken its place meanwhile."""
    more = [
        {"type": "text", "text": " Image 2:"},
        {"type": "image_url", "image_url": PICTURES[7]},
        {"type": "text", "text": " What is in image 2?"},
    ]
    with Llava.embedded() as llm:
        prefix = llm.read("Image 1:<image>", PICTURES[2])
        prefix.save(tmp_path / "before")
        prefix.create_chat_completion([{"role": "user", "content": more}], temperature=0.0)
        assert llm._session.prefix_count == 1, "the longer one begins with it"
        prefix.save(tmp_path / "after")
        assert (tmp_path / "after").read_bytes() == (tmp_path / "before").read_bytes()
        assert llm.load_prefix(tmp_path / "after").cells == prefix.cells


def test_a_conversation_takes_up_messages_and_other_ratios(llm: Llava) -> None:
    """What ``messages`` of a conversation gave, and a compression for the turns to come."""
    asked = "Image 1:<image> Image 2:<image> What is in image 2?"
    chat = llm.chat(keep="all", kv_ratio=0.5)
    chat.ask(asked, [DEMO / "pic03.png", DEMO / "pic08.png"])
    again = llm.chat(keep="all", messages=chat.messages, kv_ratio=0.5)
    assert again.n_turns == 1
    assert again.ask("And image 1?") == chat.ask("And image 1?")
    assert again.messages == chat.messages
    again.compression = again.compression.override(kv_ratio=1.0)
    again.ask("And image 2?")
    assert again.stats.kept_cells == again.stats.prompt_cells
    for talk in (again, llm.chat(kv_ratio=0.5)):
        before = talk.compression
        with pytest.raises(ValueError, match="kv_ratio"):
            talk.compression = Compression(kv_ratio=2.0)
        assert talk.compression == before
    with pytest.raises(ValueError, match="expected keep='all'"):
        llm.chat(keep="compressed", messages=chat.messages)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"^messages\[0\]"):
        llm.chat(keep="all", messages=[{"role": "user"}])


def test_messages_are_explained(llm: Llava) -> None:
    """As the question that they hold, with the images in their order."""
    pictures = [DEMO / "pic03.png", DEMO / "pic08.png"]
    asked = "Image 1:<image> Image 2:<image> What is in image 2?"
    one = llm.explain(asked, pictures, methods=["h2o"])
    messages = question_messages(asked, pictures)
    two = llm.explain(messages, methods=["h2o"])
    assert (two.answer, two.question) == (one.answer, "Image 1: Image 2: What is in image 2?")
    np.testing.assert_array_equal(two.images[1], one.images[1])
    for ours, theirs in zip(two.methods[0].layers, one.methods[0].layers, strict=True):
        np.testing.assert_array_equal(ours.kept, theirs.kept)
    with pytest.raises(ValueError, match="images is given together with messages"):
        llm.explain(messages, pictures)
