"""What a careless caller says: one clear error that names it, and what was there stays; or what was
meant.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lookm_cpp import Llava, arrays, devices, model_info, plan
from lookm_cpp.embedded import DEMO, MMPROJ, MODEL
from lookm_cpp.images import load_image
from lookm_cpp.messages import template_input
from PIL import Image

OWL = DEMO / "pic08.png"
QUESTION = "Image 1:<image> What is in image 1?"
LONG = "word " * 5000


@pytest.fixture(scope="module")
def llm() -> Any:
    with Llava.embedded() as opened:
        yield opened


def test_what_is_refused_ends_nothing(llm: Llava) -> None:
    """Neither a conversation, by whatever prompt or other conversation, nor a stream."""
    chat = llm.chat()
    assert chat.ask(QUESTION, [OWL]) == "Image 1 shows an owl."
    prompts: list[Callable[[], Any]] = [
        lambda: llm.ask(LONG),
        lambda: llm.chat().ask(LONG),
        lambda: llm.chat(method="roco", kv_ratio=0.5).ask("hi"),
        lambda: llm.ask(QUESTION, [OWL], progress=3),  # type: ignore[arg-type]
        lambda: chat.ask(QUESTION, [OWL], progress=3),  # type: ignore[arg-type]
        lambda: chat.ask(LONG),
    ]
    for refused in prompts:
        with pytest.raises(
            ValueError, match=r"do not fit|does not go with|progress: 3, expected a function"
        ):
            refused()
    assert chat.ask("Image 2:<image> What is in image 2?", [DEMO / "pic03.png"])
    assert chat.n_turns == 2
    messages = [{"role": "user", "content": "Hello"}]
    stream = llm.create_chat_completion(messages, stream=True, max_tokens=4)
    next(stream)
    with pytest.raises(ValueError, match="do not fit"):
        llm.ask(LONG)
    assert list(stream)[-1]["choices"][0]["finish_reason"]
    with pytest.raises(RuntimeError, match="ended by a newer prompt"):
        chat.ask("And now?")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": 64.0}, "max_tokens is 64.0, expected a whole number"),
    ({"max_tokens": float("nan")}, "max_tokens is nan, expected a whole number"),
    ({"temperature": "hot"}, "temperature is 'hot', expected a number"),
    ({"top_k": 1.5}, "top_k is 1.5, expected a whole number"),
    ({"top_k": 1 << 64}, "top_k is 18446744073709551616, expected at most"),
    ({"temperature": []}, r"temperature is \[\], expected a number"),
    ({"seed": "1"}, "seed: '1' is not a whole number"),
    ({"seed": 1.5}, r"seed: 1\.5 is not a whole number"),
    ({"stop": 5}, "stop is 5, expected a string or several"),
    ({"kv_ratio": "0.5"}, 'kv_ratio: "0.5" is unknown; expected a number'),
    ({"method": 3}, "method is 3, expected a string"),
    ({"stream": True}, "stream is given to ask"),
    (
        {"important_ratio": 0.6, "kv_ratio": 0.2},
        r"important_ratio: 0\.6 is more than kv_ratio 0\.2",
    ),
    ({"recent_ratio": 0.6, "kv_ratio": 0.2}, r"recent_ratio: 0\.6 is more than kv_ratio 0\.2"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_types(llm: Llava, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        llm.ask(QUESTION, [OWL], **options)
    assert llm.chat().stats.prompt_cells == 0, "a new conversation has had none"


def test_types_of_what_is_opened_and_asked() -> None:
    with pytest.raises(ValueError, match="n_ctx is None, expected a whole number"):
        Llava.embedded(n_ctx=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"seed: 1\.5 is not a whole number"):
        Llava.embedded(seed=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="images is 'many', expected a whole number"):
        plan(MODEL, mmproj=MMPROJ, images="many")  # type: ignore[arg-type]


OPENED: list[tuple[dict[str, Any], str]] = [
    ({"type_k": None}, "type_k is None, expected a string"),
    ({"kept_type_v": 5}, "kept_type_v is 5, expected a string"),
    ({"flash_attn": 2}, "flash_attn is 2, expected True, False or 'auto'"),
    ({"shrink": []}, r"shrink is \[\], expected True or False"),
    ({"check_files": 0}, "check_files is 0, expected True or False"),
    ({"verbose": "no"}, "verbose is 'no', expected True or False"),
    ({"merge_keys": {1}}, r"merge_keys is \{1\}, expected True or False"),
    ({"method": "\ud800"}, r"method is '\\ud800', expected text that is UTF-8"),
    ({"chat_template": "{{ '\ud800' }}"}, "chat_template .* is not UTF-8"),
    ({"tensor_split": "1,2"}, "tensor_split is '1,2', expected numbers"),
    ({"tensor_split": [1, "x"]}, "tensor_split is 'x', expected a number"),
    ({"rpc_servers": []}, r"rpc_servers is \[\], expected a string"),
    ({"compute_bytes": 0.5}, "compute_bytes is 0.5, expected a whole number"),
    (
        {"compute_bytes": 1 << 70},
        "compute_bytes is 1180591620717411303424, expected at most 9223372036854775807",
    ),
    ({"n_threads": []}, r"n_threads is \[\], expected a whole number"),
]


@pytest.mark.parametrize(("options", "message"), OPENED)
def test_types_of_what_is_opened(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Llava(MODEL, mmproj=MMPROJ, **options)
    planned = {
        name: value
        for name, value in options.items()
        if name not in ("tensor_split", "rpc_servers", "n_threads")
    }
    if planned:
        with pytest.raises(ValueError, match=message):
            plan(MODEL, mmproj=MMPROJ, images=1, **planned)


@pytest.mark.parametrize("name", ["kv_rato", "scored", "swa_full", "model_path", "temperature"])
def test_options_that_there_are_not(llm: Llava, name: str) -> None:
    options: dict[str, Any] = {name: 1}
    with pytest.raises(TypeError, match=name):
        Llava.embedded(**options)
    with pytest.raises(TypeError, match=name):
        plan(MODEL, mmproj=MMPROJ, images=1, **options)
    with pytest.raises(TypeError, match=name):
        llm.chat(**options)


def test_types_of_what_is_planned_and_shown(llm: Llava) -> None:
    with pytest.raises(ValueError, match="image_size is 5, expected two whole numbers"):
        plan(MODEL, mmproj=MMPROJ, images=1, image_size=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="question is None, expected a string"):
        plan(MODEL, mmproj=MMPROJ, images=1, question=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="type_v is b'x', expected a string"):
        model_info(MODEL, type_v=b"x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="type_k is None, expected a string"):
        devices(type_k=None)  # type: ignore[arg-type]
    for wrong in (5, [5], {"h2o": 1, 2: 3}, []):
        with pytest.raises(ValueError, match=r"methods is .*, expected a sequence of names"):
            llm.explain(QUESTION, OWL, methods=wrong)  # type: ignore[arg-type]


ARRAYS: list[tuple[dict[str, Any], str]] = [
    ({"window": "x"}, "window is 'x', expected a whole number"),
    ({"merge_keys": 1}, "merge_keys is 1, expected True or False"),
    ({"method": None}, "method is None, expected a string"),
    ({"important_ratio": "0.5"}, "important_ratio is '0.5', expected a number"),
    ({"seed": -2}, "seed: -2 is out of range"),
    ({"layer": 0.5}, "layer is 0.5, expected a whole number"),
]


@pytest.mark.parametrize(("options", "message"), ARRAYS)
def test_types_of_what_arrays_are_compressed_by(options: dict[str, Any], message: str) -> None:
    rows = np.ones((1, 4, 2), np.float32)
    with pytest.raises(ValueError, match=message):
        arrays.compress(rows, rows, np.ones((1, 4)), [True] * 4, **options)
    with pytest.raises(TypeError, match="kv_ratio is not an option of a method on arrays"):
        arrays.select(np.ones((1, 4)), [True] * 4, kv_ratio=0.5)  # type: ignore[call-arg]


def _nested(n: int) -> Any:
    value: Any = []
    for _ in range(n):
        value = [value]
    return value


@pytest.mark.parametrize(
    "message",
    [
        {"role": _nested(3000), "content": "a"},
        {"role": "user", "content": [{"type": "image_url", "image_url": _nested(3000)}]},
        {"role": "user", "content": "a", "tool_calls": _nested(3000)},
        {"role": "user", "content": "a", "tool_calls": [float("nan")]},
        {"role": "user", "content": "a\ud800"},
        {"role": "assistant", "content": "a", "name": []},
    ],
    ids=range(6),
)
def test_messages_that_cannot_be_shown_or_written(llm: Llava, message: dict[str, Any]) -> None:
    with pytest.raises(
        (ValueError, TypeError), match=r"expected|type must be string, but is array"
    ) as caught:
        llm.create_chat_completion([message], max_tokens=1)
    assert "json.exception" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_none_is_the_default(llm: Llava) -> None:
    """As clients of the OpenAI API send it."""
    names = (
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repeat_penalty",
        "frequency_penalty",
        "presence_penalty",
    )
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": str(OWL)}]}]
    messages[0]["content"].append({"type": "text", "text": " What is this?"})  # type: ignore[attr-defined]
    options: Any = {"seed": 3, "max_tokens": 12}
    plain = llm.create_chat_completion(messages, **options)
    nothing: Any = dict.fromkeys(names)
    said = llm.create_chat_completion(messages, **options, **nothing)
    assert plain["choices"][0]["message"] == said["choices"][0]["message"]


def test_no_temperature_is_greedy_where_greedy_is_the_default(llm: Llava) -> None:
    question = "Image 1:<image> Describe all images."
    assert llm.ask(question, OWL, temperature=None) == llm.ask(question, OWL)
    assert llm.ask(question, OWL, max_tokens=1 << 62, stop=["owl"]).endswith("an")


def test_a_refused_prompt_leaves_how_a_conversation_is_squeezed() -> None:
    with Llava.embedded(kv_cells=200, method="h2o") as llm:
        answers = []
        for refused in (False, True):
            chat = llm.chat()
            turns = [chat.ask(QUESTION, OWL)]
            if refused:
                with pytest.raises(ValueError, match="cannot be read through 200"):
                    llm.ask("word " * 700, method="text_prior_h2o")
            turns += [chat.ask(QUESTION, OWL, max_tokens=40) for _ in range(4)]
            answers.append((turns, chat.stats.kept_cells))
        assert answers[0] == answers[1]


def test_one_image_needs_no_list(llm: Llava) -> None:
    for image in (OWL, str(OWL), OWL.read_bytes(), Image.open(OWL)):
        assert llm.ask(QUESTION, image) == "Image 1 shows an owl."
    assert llm.chat().ask(QUESTION, OWL) == "Image 1 shows an owl."
    assert llm.ask("Hello", None)
    with pytest.raises(ValueError, match="question is None, expected a string"):
        llm.ask(None)  # type: ignore[arg-type]


def test_what_nobody_sees_is_white() -> None:
    """The colour below a transparent pixel does not count; a half of it does by half."""
    picture = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    picture.putpixel((1, 0), (200, 0, 0, 255))
    picture.putpixel((2, 0), (0, 0, 0, 128))
    np.testing.assert_allclose(
        load_image(picture, "it")[0], [[255] * 3, [200, 0, 0], [127] * 3], atol=1
    )
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([10, 20, 30])
    palette.info["transparency"] = 0
    assert load_image(palette, "it").tolist() == [[[255, 255, 255]]]


def test_tool_fields_reach_the_template(llm: Llava) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Call f."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "name": "f", "content": "42"},
    ]
    told = json.loads(template_input(messages, "<m>", "<c>").messages)
    assert told[1] == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert told[2] == {"role": "tool", "content": "42", "tool_call_id": "1", "name": "f"}
    assert llm.create_chat_completion(messages, max_tokens=2)["choices"]
    messages[1]["tool_calls"] = [object()]
    with pytest.raises(ValueError, match=r"messages\[1\]: .* not JSON serializable"):
        template_input(messages, "<m>", "<c>")


def test_an_answer_under_a_cap_ends() -> None:
    """It always has a cell more: as many tokens as the context has cells, unless told otherwise."""
    with Llava.embedded(kv_cells=300, n_ctx=512) as llm:
        messages = [{"role": "user", "content": "8 8 8 8 8 8"}]
        answer = llm.create_chat_completion(messages, temperature=0.0)
        assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == (
            "length",
            512,
        )
        assert (
            llm.create_chat_completion(messages, temperature=0.0, max_tokens=600)["usage"][
                "completion_tokens"
            ]
            == 600
        )


@pytest.mark.parametrize("kv_cells", range(5, 18))
def test_answers_under_the_least_caps(kv_cells: int) -> None:
    """They forget all of their cells but the last."""
    with Llava.embedded(kv_cells=kv_cells) as llm:
        messages = [{"role": "user", "content": "8 8 8 8 8 8"}]
        answer = llm.create_chat_completion(messages, temperature=0.0, max_tokens=60)
        assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == (
            "length",
            60,
        )


def test_arrays_that_hold_no_numbers() -> None:
    q, k = (np.ones((1, 4, 8), np.float32) for _ in range(2))
    with pytest.raises(ValueError, match="n_past: 9223372036854775807"):
        arrays.scores(q, k, n_past=2**63 - 1)
    q[0, 1, 2] = np.nan
    with pytest.raises(ValueError, match="q has NaN or infinity"):
        arrays.scores(q, k)
    with pytest.raises(ValueError, match="k has NaN or infinity"):
        arrays.scores(k, np.full_like(k, np.inf))
