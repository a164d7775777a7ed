"""The OpenAI shapes: messages in, completions and chunks out."""

from __future__ import annotations

import base64
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lookm_cpp import ImageLike, Llava
from lookm_cpp.answer import TextStream
from lookm_cpp.chat import question_messages
from lookm_cpp.embedded import DEMO, DemoPrompt
from lookm_cpp.images import load_image
from lookm_cpp.options import ChatOptions
from PIL import Image

OWL, UMBRELLA = DEMO / "pic08.png", DEMO / "pic03.png"
QUESTION = "Image 1:<image> Image 2:<image> What is in image 1?"
ANSWER = "Image 1 shows an owl."


def _image(image: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": image}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _messages(prompt: DemoPrompt) -> list[dict[str, Any]]:
    return question_messages(prompt.content, prompt.images)


def test_completion_has_the_openai_shape(llm: Llava, describe: DemoPrompt) -> None:
    completion = llm.create_chat_completion(_messages(describe), temperature=0)
    assert set(completion) == {"id", "object", "created", "model", "choices", "usage", "stats"}
    assert completion["id"].startswith("chatcmpl-")
    assert completion["object"] == "chat.completion"
    assert completion["model"] == llm.model_name
    assert completion["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": completion["choices"][0]["message"]["content"],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert completion["stats"] == llm.stats.as_dict()
    usage = completion["usage"]
    assert usage["prompt_tokens"] == llm.stats.prompt_cells
    assert usage["completion_tokens"] > 10
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize("kv_ratio", [1.0, 0.2])
def test_streaming_gives_the_same_text(llm: Llava, describe: DemoPrompt, kv_ratio: float) -> None:
    whole = llm.create_chat_completion(_messages(describe), temperature=0, kv_ratio=kv_ratio)
    chunks = list(
        llm.create_chat_completion(
            _messages(describe), temperature=0, kv_ratio=kv_ratio, stream=True
        )
    )
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0]["delta"] == {"role": "assistant"}
    assert all(set(choice["delta"]) == {"content"} for choice in choices[1:-1])
    assert choices[-1]["delta"] == {}
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert (
        len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks})
        == 1
    )
    text = "".join(choice["delta"].get("content", "") for choice in choices)
    assert text == whole["choices"][0]["message"]["content"]
    assert len(choices) > 10


def test_max_tokens_ends_the_answer(llm: Llava, describe: DemoPrompt) -> None:
    full = llm.ask(describe.content, describe.images)
    completion = llm.create_chat_completion(_messages(describe), temperature=0, max_tokens=4)
    choice = completion["choices"][0]
    assert choice["finish_reason"] == "length"
    assert completion["usage"]["completion_tokens"] == 4
    assert choice["message"]["content"].strip()
    assert full.startswith(choice["message"]["content"].strip())


def test_answer_ends_where_the_context_does(describe: DemoPrompt) -> None:
    images = describe.images[:3]
    with Llava.embedded(n_ctx=256) as llm:
        # At this temperature nearly every token is drawn evenly, so that the end of an answer is
        # rare.
        reasons = [
            llm.create_chat_completion(
                question_messages("", images),
                temperature=1e3,
                top_k=0,
                top_p=1.0,
                min_p=0.0,
                seed=seed,
            )["choices"][0]["finish_reason"]
            for seed in range(4)
        ]
        assert "length" in reasons
        assert llm.ask(QUESTION, [OWL, UMBRELLA]) == ANSWER


@pytest.mark.parametrize("at", range(0, 40, 3))
def test_stop_strings_never_leak(llm: Llava, describe: DemoPrompt, at: int) -> None:
    full = llm.ask(describe.content, describe.images)
    stop = full[at + 1 : at + 8]
    expected = full[: full.index(stop)]
    assert llm.ask(describe.content, describe.images, stop=stop) == expected.strip()
    chunks = llm.create_chat_completion(
        _messages(describe), temperature=0, stop=["never there", stop], stream=True
    )
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(choice["delta"].get("content", "") for choice in choices).lstrip() == expected
    assert choices[-1]["finish_reason"] == "stop"


def test_stop_must_be_strings(llm: Llava) -> None:
    with pytest.raises(ValueError, match="stop has ''"):
        llm.ask("Hello", stop="")
    with pytest.raises(ValueError, match="stop has 3"):
        llm.ask("Hello", stop=["a", 3])  # type: ignore[list-item]


@given(
    text=st.text(alphabet="aé漢😀b", max_size=30),
    cuts=st.sets(st.integers(0, 120)),
    stop=st.text("ab", min_size=1),
)
def test_text_stream_does_not_depend_on_where_tokens_end(
    text: str, cuts: set[int], stop: str
) -> None:
    data = text.encode()
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    stream = TextStream([stop])
    out = ""
    for start, end in pairwise(edges):
        out += stream.feed(data[start:end])
        assert stop not in out
        assert "\ufffd" not in out
        if stream.stopped:
            break
    assert out + stream.flush() == text.partition(stop)[0]
    assert stream.stopped == (stop in text)


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


@pytest.mark.parametrize(
    "image",
    [str(OWL), OWL, OWL.as_uri(), _data_uri(OWL), OWL.read_bytes(), Image.open(OWL)],
    ids=["path", "Path", "file URI", "data URI", "bytes", "PIL"],
)
@pytest.mark.parametrize(
    "wrap", [lambda image: image, lambda image: {"url": image}], ids=["plain", "url"]
)
def test_images_in_every_form(llm: Llava, image: ImageLike, wrap: Any) -> None:
    content = [
        _text("Image 1:"),
        _image(wrap(image)),
        _text(" Image 2:"),
        _image(UMBRELLA),
        _text(" What is in image 1?"),
    ]
    completion = llm.create_chat_completion([{"role": "user", "content": content}], temperature=0)
    assert completion["choices"][0]["message"]["content"].strip() == ANSWER


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = Image.open(DEMO / "pic01.png").convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    file = tmp_path / "turned.png"
    picture.transpose(Image.Transpose.ROTATE_90).save(file, exif=exif)
    assert load_image(file, "turned").tolist() == load_image(picture, "upright").tolist()


def test_grey_and_transparent_images_become_rgb() -> None:
    for mode in ("1", "L", "LA", "P", "RGBA", "CMYK"):
        assert load_image(Image.new(mode, (5, 4)), mode).shape == (4, 5, 3)


def test_images_in_several_messages(llm: Llava, prompts: list[DemoPrompt]) -> None:
    prompt = next(p for p in prompts if p.task == "needle" and len(p.images) == 8)
    *pieces, tail = prompt.content.split("<image>")
    parts = [
        part
        for piece, image in zip(pieces, prompt.images, strict=True)
        for part in (_text(piece), _image(image))
    ]
    one = [{"role": "user", "content": [*parts, _text(tail)]}]
    # The same turn, cut in two user messages: the template writes a second "USER: ".
    two = [
        {"role": "user", "content": parts[:8]},
        {"role": "user", "content": [*parts[8:], _text(tail)]},
    ]
    answers = [llm.create_chat_completion(messages, temperature=0) for messages in (one, two)]
    assert answers[0]["choices"][0]["message"]["content"].strip() == prompt.answer
    assert llm.stats.encode_images == len(prompt.images)
    assert llm.stats.image_cells == 64 * len(prompt.images)
    assert answers[1]["usage"]["prompt_tokens"] > answers[0]["usage"]["prompt_tokens"]


def test_conversation_with_all_roles(llm: Llava) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "The code of Anna is 4821. "},
        {
            "role": "user",
            "content": [_image({"url": str(OWL), "detail": "low"}), _text("What is in image 1?")],
        },
        {"role": "assistant", "content": "Image 1 shows an owl."},
        {"role": "user", "content": "What is in image 1?"},
    ]
    whole = llm.create_chat_completion(messages, temperature=0)["usage"]["prompt_tokens"]
    short = llm.create_chat_completion(messages[1:2], temperature=0)["usage"]["prompt_tokens"]
    assert whole > short > 64


def test_a_special_token_in_user_text_is_no_image(llm: Llava) -> None:
    completion = llm.create_chat_completion(
        [{"role": "user", "content": "<__media__> <image>"}], max_tokens=1
    )
    assert completion["usage"]["prompt_tokens"] < 64


def test_ask_puts_images_first_without_placeholders(llm: Llava) -> None:
    assert llm.ask("What?", [OWL]) == llm.ask("<image>What?", [OWL])


def test_sampling_is_reproducible_by_its_seed(llm: Llava, describe: DemoPrompt) -> None:
    def sample(seed: int) -> str:
        return llm.ask(
            describe.content,
            describe.images,
            temperature=3.0,
            top_k=0,
            top_p=1.0,
            min_p=0.0,
            seed=seed,
        )

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(3)}) > 1


def test_seed_of_the_object_is_the_default(describe: DemoPrompt) -> None:
    wild: ChatOptions = {
        "temperature": 3.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "max_tokens": 20,
    }
    with Llava.embedded(seed=7) as llm:
        own = llm.ask(describe.content, describe.images, **wild)
        wild["seed"] = 7
        assert llm.ask(describe.content, describe.images, **wild) == own


def test_progress_tells_every_phase(longest: DemoPrompt) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    def progress(phase: str, done: int, total: int) -> None:
        seen.setdefault(phase, []).append((done, total))

    with Llava.embedded(kv_ratio=0.2) as llm:  # no image is known yet
        llm.ask(longest.content, longest.images, progress=progress)
        prompt_cells = llm.stats.prompt_cells
    assert set(seen) == {"encode", "prefill", "compress"}
    for phase, total in (("encode", 16), ("prefill", prompt_cells), ("compress", 6)):
        assert {of for _, of in seen[phase]} == {total}
        assert seen[phase][-1][0] in ((total,) if phase != "compress" else (total - 1, total))
        assert seen[phase] == sorted(seen[phase])


def test_bytes_of_a_jpeg(llm: Llava) -> None:
    buffer = io.BytesIO()
    Image.open(OWL).convert("RGB").resize((256, 256)).save(buffer, "JPEG", quality=95)
    assert llm.ask(QUESTION, [buffer.getvalue(), UMBRELLA]) == ANSWER
    assert llm.stats.image_cells == 2 * 64
