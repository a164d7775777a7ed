"""Several answers, log-probabilities, usage, texts without a template, and tokens."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from lookm_cpp import AnswerText, Llava
from lookm_cpp.embedded import DemoPrompt


def _messages(prompt: DemoPrompt) -> list[dict[str, Any]]:
    images = [{"type": "image_url", "image_url": str(image)} for image in prompt.images]
    return [{"role": "user", "content": [*images, {"type": "text", "text": prompt.question}]}]


@pytest.mark.parametrize("kv_ratio", [1.0, 0.3])
def test_log_probs_are_those_of_the_model(
    llm: Llava, describe: DemoPrompt, kv_ratio: float
) -> None:
    """The oracle reads the answer's tokens anew; of the first, only the argument is known."""
    options: dict[str, Any] = {"kv_ratio": kv_ratio, "temperature": 2.0, "seed": 4}
    made = llm.create_chat_completion(
        _messages(describe), logprobs=True, top_logprobs=5, max_tokens=12, **options
    )
    found = made["choices"][0]["logprobs"]
    assert found is not None
    request = llm._request(_messages(describe), {"max_tokens": 12, **options})
    request.read(llm._session)
    tokens = list(request.answer(llm._session))
    assert "".join(one["token"] for one in found["content"]).strip() == "".join(tokens).strip()

    request.read(llm._session)
    given = _tokens(llm, found["content"])
    rows = llm._session.distributions(given[:-1])
    for one, token, row in zip(found["content"][1:], given[1:], rows, strict=True):
        assert one["logprob"] == pytest.approx(row[token], abs=1e-3)
        best = np.sort(row)[::-1][:5]
        assert [top["logprob"] for top in one["top_logprobs"]] == pytest.approx(best, abs=1e-3)
        assert bytes(one["bytes"]).decode(errors="replace") == one["token"]


def _tokens(llm: Llava, content: list[Any]) -> list[int]:
    pieces = {llm._session.piece_of(token): token for token in range(616)}
    return [pieces[bytes(one["bytes"])] for one in content]


def test_log_probs_of_chunks_are_those_of_the_whole(llm: Llava, describe: DemoPrompt) -> None:
    options: dict[str, Any] = {"temperature": 0.0, "logprobs": True, "max_tokens": 12}
    whole = llm.create_chat_completion(_messages(describe), **options)["choices"][0]["logprobs"]
    content = []
    for chunk in llm.create_chat_completion(_messages(describe), stream=True, **options):
        found = chunk["choices"][0]["logprobs"]
        content += found["content"] if found else []
    assert whole == {"content": content, "refusal": None}
    assert all(one["top_logprobs"] == [] for one in content)


def test_several_answers_have_their_own_seeds(llm: Llava, describe: DemoPrompt) -> None:
    options: dict[str, Any] = {"temperature": 4.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    options |= {"kv_ratio": 0.3, "max_tokens": 16}
    made = llm.create_chat_completion(_messages(describe), n=3, seed=10, **options)
    assert [choice["index"] for choice in made["choices"]] == [0, 1, 2]
    texts = [choice["message"]["content"] for choice in made["choices"]]
    alone = [
        llm.create_chat_completion(_messages(describe), seed=seed, **options)["choices"][0]
        for seed in (10, 11, 12)
    ]
    assert texts == [choice["message"]["content"] for choice in alone]
    assert len({*texts}) == 3
    assert 3 <= made["usage"]["completion_tokens"] <= 48

    streamed = ["", "", ""]
    chunks = [
        *llm.create_chat_completion(
            _messages(describe),
            n=3,
            seed=10,
            stream=True,
            stream_options={"include_usage": True},
            **options,
        )
    ]
    for chunk in chunks[:-1]:
        (choice,) = chunk["choices"]
        streamed[choice["index"]] += choice["delta"].get("content", "")
    assert streamed == texts
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == made["usage"]


def test_the_statistics_of_an_answer_stay(llm: Llava, prompts: list[DemoPrompt]) -> None:
    first = llm.ask(prompts[0].content, prompts[0].images, kv_ratio=0.5)
    second = llm.ask("Hello", kv_ratio=1.0, max_tokens=2)
    assert isinstance(first, AnswerText)
    assert isinstance(first, str)
    assert first.stats.kept_cells < first.stats.prompt_cells
    assert (second.stats, second.finish_reason) == (llm.stats, "length")
    assert first.stats.prompt_cells > second.stats.prompt_cells
    assert first.finish_reason == "stop"
    assert json.loads(json.dumps({"text": first})) == {"text": str(first)}
    chat = llm.chat()
    assert chat.ask("Hello", max_tokens=2).stats == chat.stats
    whole = llm.chat(keep="all")
    assert whole.ask("Hello", max_tokens=2).finish_reason == "length"


def test_a_text_is_continued_as_it_is(llm: Llava, prompts: list[DemoPrompt]) -> None:
    """The prompt that the template makes, given as a text, has the template's answer."""
    prompt = prompts[0]
    text = llm._request(_messages(prompt), {}).text
    text = text.replace(llm._session.media_marker, "<image>")
    options: dict[str, Any] = {"temperature": 0.0, "max_tokens": 30, "kv_ratio": 0.3}
    wanted = llm.create_chat_completion(_messages(prompt), **options)
    made = llm.create_completion(text, prompt.images, **options)
    assert made["object"] == "text_completion"
    assert made["choices"][0]["text"] == wanted["choices"][0]["message"]["content"]
    assert made["usage"] == wanted["usage"]
    echoed = llm(text, prompt.images, echo=True, **options)
    assert echoed["choices"][0]["text"] == text + made["choices"][0]["text"]
    pieces = llm(text, prompt.images, echo=True, stream=True, **options)
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == echoed["choices"][0]["text"]


def test_a_text_has_the_defaults_of_llama_cpp_python(llm: Llava) -> None:
    made = llm("Image 1 shows", seed=3, logprobs=2)
    assert made["usage"]["completion_tokens"] <= 16
    found = made["choices"][0]["logprobs"]
    assert found is not None
    assert "".join(found["tokens"]) == made["choices"][0]["text"]
    assert found["text_offset"][1] == len(found["tokens"][0])
    assert all(len(top) == 2 for top in found["top_logprobs"])
    for token, value, top in zip(
        found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True
    ):
        assert top.get(token, value) == value
    assert made == {**llm("Image 1 shows", seed=3, logprobs=2, temperature=0.8)} | {
        key: made[key] for key in ("id", "created", "stats")
    }
    stopped = llm("Image 1 shows", temperature=0, stop=["\n", "."], max_tokens=40)
    assert "." not in stopped["choices"][0]["text"]


def test_tokens(llm: Llava) -> None:
    tokens = llm.tokenize(b"Image 1 shows")
    assert llm.tokenize("Image 1 shows") == tokens
    assert llm.detokenize(tokens) == b"Image 1 shows"
    assert llm.tokenize("Image 1 shows", add_bos=False) in (tokens, tokens[1:])
    assert len(llm.tokenize("</s>", add_bos=False)) > 1
    (end,) = llm.tokenize("</s>", add_bos=False, special=True)
    assert llm.detokenize([end]) == b""
    assert llm.detokenize([end], special=True) == b"</s>"


def test_cells_of_messages(llm: Llava, prompts: list[DemoPrompt]) -> None:
    for prompt in prompts[:3]:
        n_tokens = llm.n_tokens_of(_messages(prompt))
        llm.create_chat_completion(_messages(prompt), max_tokens=1)
        assert n_tokens == llm.stats.prompt_cells
        pruned = llm.n_tokens_of(_messages(prompt), image_ratio=0.5)
        llm.create_chat_completion(_messages(prompt), max_tokens=1, image_ratio=0.5)
        assert pruned == llm.stats.prompt_cells < n_tokens


@pytest.mark.parametrize(
    ("options", "named", "said"),
    [
        ({"n": 0}, "n", "expected 1 to 128"),
        ({"n": "two"}, "n", "whole number"),
        ({"top_logprobs": 3}, "top_logprobs", "expected logprobs=True"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "expected 0 to 20"),
        ({"logprobs": 3}, "logprobs", "True or False"),
        ({"stream_options": True}, "stream_options", "expected a dict"),
        ({"stream_options": {"include_usage": 3}}, "stream_options", "True or False"),
        ({"user": 3}, "user", "expected a string"),
        ({"stream": "yes"}, "stream", "True or False"),
    ],
)
def test_what_cannot_be_used(llm: Llava, options: Any, named: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}") as error:
        llm.create_chat_completion([{"role": "user", "content": "Hello"}], **options)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda llm: llm.create_completion(5), "prompt"),
        (lambda llm: llm.create_completion("a\ud800"), "prompt"),
        (lambda llm: llm.create_completion("<image> <image>", [b"x"]), "prompt has 2"),
        (lambda llm: llm.create_completion("a", echo="b"), "echo"),
        (lambda llm: llm.tokenize(5), "text"),
        (lambda llm: llm.tokenize(b"\xff"), "text"),
        (lambda llm: llm.detokenize([616]), "tokens"),
        (lambda llm: llm.detokenize(["a"]), "tokens"),
        (lambda llm: llm.n_tokens_of("a"), "messages"),
    ],
)
def test_what_no_text_is(llm: Llava, call: Any, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}"):
        call(llm)
