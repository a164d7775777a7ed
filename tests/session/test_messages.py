"""Messages as clients send them:

OpenAI's form, ollama's form, and nothing dropped without a word.
"""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from lookm_cpp import Llava
from lookm_cpp.embedded import DEMO
from lookm_cpp.messages import template_input
from PIL import Image

OWL, UMBRELLA = DEMO / "pic08.png", DEMO / "pic03.png"
OWL64 = base64.b64encode(OWL.read_bytes()).decode()


def told(messages: list[dict[str, Any]]) -> tuple[Any, int]:
    """What the template gets, and how many images."""
    found = template_input(messages, "<m>", "<c>")
    return json.loads(found.messages), len(found.images)


def test_ollamas_images_come_before_the_text() -> None:
    pil = Image.open(io.BytesIO(OWL.read_bytes()))
    for images in ([OWL64], [str(OWL)], [OWL], [OWL.read_bytes()], [pil], (OWL,), OWL):
        assert told([{"role": "user", "content": "What is this?", "images": images}]) == (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "media_marker", "text": "<m>"},
                        {"type": "text", "text": "What is this?"},
                    ],
                }
            ],
            1,
        )
    two = [{"role": "user", "content": "Which?", "images": [OWL64, UMBRELLA]}]
    assert [part["text"] for part in told(two)[0][0]["content"]] == ["<m>", "<m>", "Which?"]
    for message in ({"content": ""}, {"content": None}, {}):
        found, n = told([{"role": "user", "images": [OWL], **message}])
        assert (found[0]["content"], n) == ([{"type": "media_marker", "text": "<m>"}], 1)
    parts = {"role": "user", "content": [{"type": "text", "text": "a"}], "images": [OWL]}
    assert [part["text"] for part in told([parts])[0][0]["content"]] == ["<m>", "a"]
    assert told([{"role": "user", "content": "a", "images": []}]) == (
        [{"role": "user", "content": "a"}],
        0,
    )


def test_ollamas_messages_are_answered() -> None:
    """As the same in OpenAI's form; once nobody saw the picture."""
    question = "What is in image 1?"
    parts = [{"type": "image_url", "image_url": str(OWL)}, {"type": "text", "text": question}]
    with Llava.embedded() as llm:
        answers = []
        for message in ({"content": question, "images": [OWL64]}, {"content": parts}):
            completion: Any = llm.create_chat_completion(
                [{"role": "user", **message}], temperature=0
            )
            answers.append((completion["choices"][0]["message"]["content"], completion["usage"]))
            assert llm.stats.encode_images == 1
    assert answers[0] == answers[1]


def test_ollamas_fields_become_those_of_templates() -> None:
    messages = [
        {"role": "assistant", "content": "", "thinking": "Hm."},
        {"role": "tool", "content": "42", "tool_name": "f"},
    ]
    assert told(messages)[0] == [
        {"role": "assistant", "content": "", "reasoning_content": "Hm."},
        {"role": "tool", "content": "42", "name": "f"},
    ]


def test_what_clients_of_openai_send() -> None:
    nothing = dict.fromkeys(
        ("tool_calls", "refusal", "audio", "function_call", "name", "annotations", "anything")
    )
    assert told([{"role": "user", "content": "Hi", **nothing}])[0] == [
        {"role": "user", "content": "Hi"}
    ]
    answer: dict[str, Any] = {
        "role": "assistant",
        "content": "Hello.",
        "annotations": [],
        "refusal": None,
    }
    assert told([answer])[0] == [{"role": "assistant", "content": "Hello."}]
    assert told([{"role": "assistant", "content": None}])[0] == [
        {"role": "assistant", "content": ""}
    ]
    assert told([{"role": "assistant"}])[0] == [{"role": "assistant", "content": ""}]
    refused = {"role": "assistant", "content": None, "refusal": "I cannot."}
    assert told([refused])[0] == [{"role": "assistant", "content": "I cannot."}]
    assert told([{"role": "user", "content": "Hi", "name": "Ann"}])[0][0]["name"] == "Ann"
    cached = {"cache_control": {"type": "ephemeral"}}
    text = {"type": "text", "text": "a", **cached}
    image = {"type": "image_url", "image_url": {"url": str(OWL), "detail": "low"}, **cached}
    found, n = told([{"role": "user", "content": [text, image], **cached}])
    assert found == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "media_marker", "text": "<m>"}],
        }
    ]
    assert n == 1
    assert told([{"role": "user", "content": [{**image, "evictable": True}]}])[1] == 1


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            {"content": "a", "image": [OWL64]},
            r"messages\[1\] has the key 'image', expected only role, content, images,",
        ),
        ({"content": "a", "prefix": True}, r"messages\[1\] has the key 'prefix'"),
        ({"content": "a", "audio": {"id": "1"}}, r"messages\[1\] has the key 'audio'"),
        ({"content": "a", 5: 1}, r"messages\[1\] has the key 5"),
        (
            {"content": [{"type": "text", "text": "a", "image_url": "b"}]},
            r"content\[0\] has the key 'image_url'",
        ),
        (
            {"content": [{"type": "image_url", "image_url": str(OWL), "text": "a"}]},
            r"content\[0\] has the key 'text', expected only type, image_url",
        ),
        (
            {"content": [{"type": "image_url", "image_url": {"url": str(OWL), "size": 1}}]},
            r"content\[0\].image_url has the key 'size', expected only url, detail",
        ),
        (
            {"content": [{"type": "image_url", "image_url": str(OWL), "evictable": False}]},
            r"content\[0\].evictable is False, expected True or no such key: "
            "an image's cells may always be evicted",
        ),
        (
            {"content": [{"type": "text", "text": "a", "evictable": 1}]},
            r"content\[0\].evictable is 1, expected bool",
        ),
        ({"content": "a", "images": ["nowhere.png"]}, "image 1 'nowhere.png' does not exist"),
        ({"content": "a", "images": 5}, "images is 5 of type int"),
        ({"content": 5, "images": [OWL]}, r"messages\[1\].content is 5, expected str or list"),
        (
            {"content": "a", "tool_calls": [{1, 2}]},
            r"messages\[1\]: .*set.*, expected JSON values in",
        ),
    ],
)
def test_nothing_is_dropped(message: dict[str, Any], expected: str) -> None:
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=expected):
        told([{"role": "user", "content": "before"}, {"role": "user", **message}])


@pytest.mark.parametrize("wrong", [5, "hello", {"role": "user", "content": "a"}, None, b"a"])
def test_what_is_no_list_of_messages(wrong: Any) -> None:
    with (
        Llava.embedded() as llm,
        pytest.raises(ValueError, match=r"messages is .*, expected a list of dicts"),
    ):
        llm.create_chat_completion(wrong)
