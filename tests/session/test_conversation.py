"""Conversations: against one prompt that says the same, under budgets, and from a file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_session import Session
from lookm_cpp import Llava
from lookm_cpp.embedded import DEMO, MMPROJ, MODEL

from session.gguf_files import change_a_weight, split
from session.tiny_models import write_llama

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

FIRST_BYTE = 3
METHOD = "text_prior_pivot_merge"
OWL, UMBRELLA, LADYBUG, GRID = (DEMO / f"pic{n}.png" for n in ("08", "03", "12", "07"))
Options = dict[str, Any]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of text alone; every byte is a token."""
    return str(write_llama(tmp_path_factory.mktemp("tiny") / "llama.gguf", n_ctx=4096))


def answer(session: Session, n: int) -> list[bytes]:
    session.start(temperature=0.0)
    return list(islice(iter(session.next, None), n))


@pytest.mark.parametrize(
    ("flash_attn", "cache_type"), [("on", "f16"), ("off", "f16"), ("on", "q8_0")]
)
def test_turns_are_one_sequence(tiny: str, flash_attn: str, cache_type: str) -> None:
    """Without eviction, the answers of a bare context that gets all turns, token for token."""
    talk = Session(
        tiny, "", n_threads=1, flash_attn=flash_attn, type_k=cache_type, type_v=cache_type
    )
    model = _oracle.Model.load(tiny)
    options = {"flash_attn": flash_attn == "on", "type_k": cache_type, "type_v": cache_type}
    bare = _oracle.Sequences(model, n_ctx=1024, n_ubatch=512, unified=False, **options)
    pending: list[int] = []
    n_cells = 0
    for i, turn in enumerate(("Hello, world! " * 9, " A long text. " * 9, "</s> And now?")):
        talk.converse(turn, [], kv_ratio=1.0, method=METHOD, n_answer=24)
        tokens = [token for token, _ in _oracle.prompt_cells(tiny, "", turn, [], [])]
        tokens = pending + tokens[min(i, 1) :]  # begin of text once
        n_cells += len(tokens)
        assert talk.stats["prompt_cells"] == talk.stats["kept_cells"] == n_cells
        logits = bare.text(0, tokens)
        pieces = answer(talk, 24)
        expected: list[int] = []
        for _ in pieces:
            expected.append(int(np.argmax(logits)))
            if len(expected) < 24:
                logits = bare.text(0, expected[-1:])
                n_cells += 1
        assert [FIRST_BYTE + piece[0] for piece in pieces] == expected
        pending = expected[-1:] if len(pieces) == 24 else []
    assert n_cells > 300


TALK: list[tuple[str, list[Path]]] = [
    ("Image 1:<image> Image 2:<image> What is in image 1?", [OWL, UMBRELLA]),
    ("Image 3:<image> What is in image 3?", [LADYBUG]),
    ("What is in image 2?", []),
    ("Image 4:<image> What is at the top left of image 4?", [GRID]),
    ("The code of Ivan is 8801. What is the code of Ivan?", []),
    ("What is in image 1?", []),
    ("What is the code of Ivan?", []),
]


def test_a_conversation_after_a_compressed_prompt(tiny: str) -> None:
    """Whatever the session did before, and in whatever context it was left: as in a session of its
    own.
    """
    used, fresh = (Session(tiny, "", n_threads=1) for _ in range(2))
    how: Options = {"kv_ratio": 0.3, "method": "h2o"}
    used.prefill("A long text. " * 60, [], n_answer=8, **how)
    assert used.stats["kv_bytes_allocated_after"] < used.stats["kv_bytes_allocated_before"]
    for turn in ("Hello, world! " * 40, "And now? " * 9):
        found = []
        for session in (used, fresh):
            converse = session.converse if session.talking else session.converse_anew
            converse(turn, [], n_answer=8, **how)
            stats = session.stats
            assert stats["kept_cells"] == pytest.approx(0.3 * stats["prompt_cells"], abs=3)
            found.append((stats["kept_cells"], answer(session, 8)))
        assert found[0] == found[1]
    with pytest.raises(ValueError, match='method: "roco" does not go with a conversation'):
        used.converse("Hello", [], kv_ratio=0.3, method="roco")


def test_saved_after_an_interrupted_first_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is there, as in the conversation itself, though no answer came to its end."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with Llava.embedded(kv_ratio=0.6) as llm:
        chat = llm.chat()
        with monkeypatch.context() as patched:
            patched.setattr("lookm_cpp.conversation.Answer", interrupted)
            with pytest.raises(KeyboardInterrupt):
                chat.ask("Image 1:<image> Image 2:<image> What is in image 2?", [UMBRELLA, OWL])
        chat.save(tmp_path / "talk")
        n_cells = chat.stats.prompt_cells
        taken_up = llm.load_state(tmp_path / "talk")
        question = ("Image 3:<image> What is in image 3?", [LADYBUG])
        answers = [taken_up.ask(*question)]
        assert taken_up.stats.prompt_cells > 3 * 64 > n_cells
        taken_up.save(tmp_path / "talk")
        chat = llm.chat()
        with monkeypatch.context() as patched:
            patched.setattr("lookm_cpp.conversation.Answer", interrupted)
            with pytest.raises(KeyboardInterrupt):
                chat.ask("Image 1:<image> Image 2:<image> What is in image 2?", [UMBRELLA, OWL])
        answers.append(chat.ask(*question))
    assert answers[0] == answers[1]


def test_a_turn_that_ends_with_an_image() -> None:
    session = Session(str(MODEL), str(MMPROJ), n_threads=1)
    image = np.zeros((64, 64, 3), np.uint8)
    text = f"A{session.media_marker}"
    session.converse(f"{text} What?", [image], kv_ratio=1.0, method=METHOD)
    answer(session, 2)
    with pytest.raises(
        ValueError, match="messages: the prompt ends with an image; expected text after it"
    ):
        session.converse(text, [image], kv_ratio=1.0, method=METHOD)
    session.converse(" What?", [], kv_ratio=1.0, method=METHOD)
    assert answer(session, 2)


def test_cells_that_an_answer_forgot_are_counted(tiny: str) -> None:
    """Every token of turns and answers counts as a cell that was read, even if it was evicted."""
    talk, taken_up = (Session(tiny, "", n_threads=1, kv_cells=96) for _ in range(2))
    how: Options = {"kv_ratio": 1.0, "method": METHOD, "n_answer": 24}
    talk.converse("Hello, world! " * 4, [], **how)
    n_cells = talk.stats["prompt_cells"]
    assert n_cells < 96 - 96 // 8
    talk.start(temperature=0.0, ignore_eos=True)
    assert len([talk.next() for _ in range(200)]) == 200
    taken_up.restore(talk.state(), kv_ratio=1.0, method=METHOD)
    assert taken_up.stats["prompt_cells"] == n_cells + 199, "the last token is chosen, not read"
    n_cells += 200 + len(talk.tokens_of(" And now?"))
    for session in (talk, taken_up):
        session.converse(" And now?", [], **how)
        stats = session.stats
        assert stats["prompt_cells"] == stats["text_cells"] == n_cells
        assert stats["squeezed_cells"] == stats["prompt_cells"] - stats["kept_cells"] > 160


@pytest.mark.parametrize(
    "options", [{"kv_ratio": 0.4}, {"kv_cells": 200}, {"kv_cells": 200, "kv_ratio": 0.3}]
)
def test_a_budget_holds_over_all_turns(options: Options) -> None:
    with Llava.embedded(**options) as llm:
        chat = llm.chat()
        n_images = 0
        for n, (question, images) in enumerate(TALK, 1):
            assert chat.ask(question, images, max_tokens=24)
            stats = chat.stats
            n_images += len(images)
            assert chat.n_turns == n
            assert stats.image_cells == 64 * n_images
            assert stats.prompt_cells == stats.text_cells + stats.image_cells
            assert stats.kept_cells == stats.prompt_cells - stats.squeezed_cells
            if "kv_ratio" in options:
                # but for the share that no image gives up: 1/32, and the last eighth of the budget
                most = max(
                    options["kv_ratio"] * stats.prompt_cells, stats.text_cells + 2 * n_images
                )
                assert stats.kept_cells <= most + most / 8
            if "kv_cells" in options:
                assert stats.kept_cells <= 200 - min(24, 200 // 8)
                assert stats.kv_bytes_allocated_after <= 256 * 3072
        assert stats.squeezed_cells > 100


def test_a_long_talk_under_a_cap_never_ends() -> None:
    with Llava.embedded(kv_cells=160) as llm:
        chat = llm.chat()
        for _ in range(20):
            for question, images in TALK[:2]:
                chat.ask(question, images, max_tokens=12)
        assert chat.stats.prompt_cells > 4096, "more than the model's context"
        assert chat.stats.kept_cells <= 160


SAVE = """
import sys
from lookm_cpp import Llava
with Llava.embedded(**eval(sys.argv[1])) as llm:
    chat = llm.load_state(sys.argv[2])
    print(chat.ask("What is in image 1?", max_tokens=32))
    print(chat.stats.kept_cells, chat.n_turns)
"""


@pytest.mark.parametrize(
    "options", [{"kv_ratio": 0.4}, {"kv_cells": 200}, {"kv_ratio": 0.5, "type_k": "q8_0"}]
)
def test_a_file_goes_on_in_another_process(tmp_path: Path, options: Options) -> None:
    file = tmp_path / "talk.state"
    with Llava.embedded(**options) as llm:
        chat = llm.chat()
        for question, images in TALK[:4]:
            chat.ask(question, images, max_tokens=32)
        chat.save(file)
        expected = chat.ask("What is in image 1?", max_tokens=32)
        kept = chat.stats.kept_cells
    command = [sys.executable, "-c", SAVE, repr(options), str(file)]
    printed = subprocess.check_output(command, text=True).splitlines()
    assert printed == [expected, f"{kept} 5"]


def test_files_that_are_refused(tmp_path: Path, tiny: str) -> None:
    file, bad = tmp_path / "talk.state", tmp_path / "bad.state"
    with Llava.embedded(kv_ratio=0.5) as llm:
        chat = llm.chat()
        with pytest.raises(ValueError, match="chat has no turn yet"):
            chat.save(file)
        chat.ask(*TALK[0])
        chat.save(file)
        whole = file.read_bytes()
        assert sorted(tmp_path.iterdir()) == [file], "nothing is left beside it"
        for at in (0, 9, 40, len(whole) // 2, len(whole) - 1):
            bad.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            with pytest.raises(
                ValueError, match=r"is not a saved conversation|has version|is truncated or damaged"
            ):
                llm.load_state(bad)
        for n in (0, 8, 60, len(whole) // 2, len(whole) - 1):
            bad.write_bytes(whole[:n])
            with pytest.raises(
                ValueError, match=r"is not a saved conversation|is truncated or damaged"
            ):
                llm.load_state(bad)
        assert chat.ask(*TALK[2]), "a file that is refused ends no conversation"
        with pytest.raises(FileNotFoundError):
            chat.save(tmp_path / "no" / "talk.state")
    with (
        Llava(tiny, mmproj=False) as other,
        pytest.raises(
            ValueError, match="was made with another model, expected one made with 'llama"
        ),
    ):
        other.load_state(file)
    for options, message in (
        ({"type_k": "q8_0"}, "made with type_k 'f16', expected 'q8_0'"),
        ({"kv_cells": 20}, "fit"),
    ):
        given: Options = options
        with (
            Llava(MODEL, mmproj=MMPROJ, n_threads=1, **given) as llm,
            pytest.raises(ValueError, match=message),
        ):
            llm.load_state(file)


def test_a_file_is_of_all_parts_of_a_split_model(tmp_path: Path) -> None:
    parts = split(MODEL, tmp_path / "model.gguf", n_tensors=20)
    assert len(parts) == 3
    file = tmp_path / "talk.state"
    with Llava(parts[0], mmproj=MMPROJ, n_threads=1) as llm:
        chat = llm.chat()
        chat.ask(*TALK[0])
        chat.save(file)
        assert llm.load_state(file).n_turns == 1
    change_a_weight(parts[2])
    with (
        Llava(parts[0], mmproj=MMPROJ, n_threads=1) as llm,
        pytest.raises(ValueError, match="was made with another model"),
    ):
        llm.load_state(file)


def test_a_file_is_of_a_projector(tmp_path: Path) -> None:
    file, projector = tmp_path / "talk.state", tmp_path / "mmproj.gguf"
    with Llava.embedded() as llm:
        chat = llm.chat()
        chat.ask(*TALK[0])
        chat.save(file)
    shutil.copy(MMPROJ, projector)
    with Llava(MODEL, mmproj=projector, n_threads=1) as llm:
        assert llm.load_state(file).n_turns == 1, "the same projector elsewhere"
    with Llava(MODEL, mmproj=False, n_threads=1) as llm:
        assert llm.load_state(file).ask("What is in image 1?", max_tokens=8), (
            "text goes on without any"
        )
    change_a_weight(projector)
    with (
        Llava(MODEL, mmproj=projector, n_threads=1) as llm,
        pytest.raises(ValueError, match="made with another projector"),
    ):
        llm.load_state(file)


def test_a_newer_prompt_ends_a_conversation() -> None:
    with Llava.embedded(kv_ratio=0.5) as llm:
        chat = llm.chat()
        chat.ask(*TALK[0])
        llm.ask(*TALK[0])
        with pytest.raises(RuntimeError, match="ended by a newer prompt"):
            chat.ask(*TALK[2])
        other = llm.chat()
        assert other.ask(*TALK[0]) == "Image 1 shows an owl."
        with pytest.raises(ValueError, match="question has 1 placeholders <image> for 0 images"):
            other.ask("<image>?")
        assert other.ask(*TALK[2]), "what is wrong with a question leaves the conversation as it is"


def test_wrong_sampling_leaves_a_conversation_as_it_is() -> None:
    turns = (
        ("Image 1:<image>What is in image 1?", [OWL]),
        ("Image 2:<image>What is in image 2?", [UMBRELLA]),
    )
    wrong: list[Any] = [
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"repeat_penalty": 0.0},
        {"seed": 1 << 32},
    ]
    with Llava.embedded(kv_ratio=0.5) as llm:
        cells = []
        for mistakes in ([], wrong):
            chat = llm.chat()
            for question, images in turns:
                for options in mistakes:
                    with pytest.raises(ValueError, match=f"{next(iter(options))}: "):
                        chat.ask(question, images, **options)
                chat.ask(question, images, top_k=1 << 40, seed=-1)
            cells.append((chat.n_turns, chat.stats.prompt_cells, chat.stats.kept_cells))
        assert cells[0] == cells[1]


def test_an_error_while_a_turn_is_read(tiny: str) -> None:
    """The conversation is lost, and says so."""
    with Llava(tiny, mmproj=False, n_threads=1) as llm:
        chat = llm.chat()
        chat.ask("Hello?", max_tokens=4)

        def stop(*_: object) -> None:
            raise KeyError

        with pytest.raises(KeyError):
            chat.ask("And?", progress=stop)
        with pytest.raises(RuntimeError, match="ended with an error"):
            chat.ask("And?")
        with pytest.raises(ValueError, match='method: "roco" does not go with a conversation'):
            llm.chat(method="roco", kv_ratio=0.5).ask("Hello?")
