"""Conversations: against one prompt that says the same, under budgets, and from a file."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lookm_cpp import Llava, _core
from lookm_cpp.embedded import DEMO, MMPROJ, MODEL

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


def answer(session: _core.Session, n: int) -> list[bytes]:
    session.start(temperature=0.0)
    return list(islice(iter(session.next, None), n))


@pytest.mark.parametrize(("flash_attn", "cache_type"), [("on", "f16"), ("off", "f16"), ("on", "q8_0")])
def test_turns_are_one_sequence(tiny: str, flash_attn: str, cache_type: str) -> None:
    """Nothing evicted: token for token what a bare context says that is fed all turns and answers."""
    talk = _core.Session(tiny, "", n_threads=1, flash_attn=flash_attn, type_k=cache_type, type_v=cache_type)
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


@pytest.mark.parametrize("options", [{"kv_ratio": 0.4}, {"kv_cells": 200}, {"kv_cells": 200, "kv_ratio": 0.3}])
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
                most = max(options["kv_ratio"] * stats.prompt_cells, stats.text_cells + 2 * n_images)
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


@pytest.mark.parametrize("options", [{"kv_ratio": 0.4}, {"kv_cells": 200}, {"kv_ratio": 0.5, "type_k": "q8_0"}])
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
            with pytest.raises(ValueError, match=r"holds no conversation|is of version|is cut off or damaged"):
                llm.load_state(bad)
        for n in (0, 8, 60, len(whole) // 2, len(whole) - 1):
            bad.write_bytes(whole[:n])
            with pytest.raises(ValueError, match=r"holds no conversation|is cut off or damaged"):
                llm.load_state(bad)
        assert chat.ask(*TALK[2]), "a file that is refused ends no conversation"
        with pytest.raises(FileNotFoundError):
            chat.save(tmp_path / "no" / "talk.state")
    with Llava(tiny, mmproj=False) as other, pytest.raises(ValueError, match="is of another model than 'llama"):
        other.load_state(file)
    for options, message in (
        ({"type_k": "q8_0"}, "made with type_k 'f16', expected 'q8_0'"),
        ({"kv_cells": 20}, "fit"),
    ):
        given: Options = options
        with Llava(MODEL, mmproj=MMPROJ, n_threads=1, **given) as llm, pytest.raises(ValueError, match=message):
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
    turns = (("Image 1:<image>What is in image 1?", [OWL]), ("Image 2:<image>What is in image 2?", [UMBRELLA]))
    wrong: list[Any] = [{"temperature": -1.0}, {"top_p": 0.0}, {"repeat_penalty": 0.0}, {"seed": 1 << 32}]
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
        with pytest.raises(RuntimeError, match="lost in an error"):
            chat.ask("And?")
        with pytest.raises(ValueError, match='method: "roco" does not go with a conversation'):
            llm.chat(method="roco", kv_ratio=0.5).ask("Hello?")
