"""What llama-server can do beside plain answers, on compressed prompts: adapters, drafts, grammars,
tools, ...
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import gguf
import numpy as np
from lookm_cpp.embedded import DemoPrompt
from session.tiny_models import write_llama

from server.servers import Json, Server, content, drafts_by, launch, messages, running

H2O = (
    "--kv-ratio",
    "0.3",
    "--kv-method",
    "h2o",
    "-c",
    "512",
    "-np",
    "2",
    "--kv-unified",
    "-b",
    "64",
    "-ub",
    "64",
)
N_EMBD, RANK, ALPHA = 256, 4, 8.0
TOOLS = """{%- if tools %}{{ tools | tojson }}{% endif %}
{%- for m in messages -%}
{{ m.role }}: {{ m.content or '' }}
{%- for call in m.tool_calls or [] -%}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt %}assistant: {% endif -%}"""
TOKENS = [int(token) for token in np.random.default_rng(11).integers(3, 259, 200)]


def write_adapter(path: Path, n_v: int = N_EMBD) -> dict[str, np.ndarray]:
    """A LoRA adapter of two matrices, and what it adds to each. ``n_v``: rows of V's."""
    rng = np.random.default_rng(3)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    added = {}
    for name, n in (("blk.0.attn_q.weight", N_EMBD), ("blk.0.attn_v.weight", n_v)):
        a = rng.standard_normal((RANK, N_EMBD), dtype=np.float32) / np.float32(N_EMBD**0.5)
        b = rng.standard_normal((n, RANK), dtype=np.float32)
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", b)
        added[name] = b @ a * np.float32(ALPHA / RANK)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return added


def _kept(answer: Json) -> tuple[int, int]:
    return answer["timings"]["prompt_cells"], answer["timings"]["kept_cells"]


def test_an_adapter_is_as_good_as_its_weights(folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.gguf"
    plain, merged = tmp_path / "plain.gguf", tmp_path / "merged.gguf"
    write_llama(merged, N_EMBD, added=write_adapter(adapter))
    write_llama(plain, N_EMBD)
    with running(folder, "-m", str(merged), *H2O) as server:
        expected = server.complete(TOKENS)
    with running(folder, "-m", str(plain), "--lora", str(adapter), *H2O) as server:
        answer = server.complete(TOKENS)
        without = server.complete(TOKENS, lora=[{"id": 0, "scale": 0.0}])
        again = server.complete(TOKENS)
    assert answer["tokens"] == again["tokens"] == expected["tokens"] != without["tokens"]
    assert _kept(answer) == _kept(expected) == (200, 60)


def test_a_draft_model_changes_no_answer(folder: Path, tmp_path: Path) -> None:
    model = str(write_llama(tmp_path / "model.gguf", N_EMBD))
    with running(folder, "-m", model, *H2O) as server:
        expected = server.complete(TOKENS, n_predict=48)
    with running(folder, "-m", model, *drafts_by(model), *H2O) as server:
        for _ in range(2):
            answer = server.complete(TOKENS, n_predict=48)
            assert answer["tokens"] == expected["tokens"]
            assert _kept(answer) == _kept(expected) == (200, 60)
            assert answer["timings"]["draft_n"] > 0
        assert len(server.lines(" compress:")) == 2  # the draft's own cache never is


def test_a_grammar(sums: Server) -> None:
    answer = sums.complete(
        list(range(40, 340)), n_predict=12, ignore_eos=False, grammar='root ::= [a-c]+ "-" [0-9]+'
    )
    assert re.fullmatch(r"[a-c]+(-[0-9]*)?", answer["content"].strip())
    assert _kept(answer) == (300, 90)


def test_a_tool_is_called(folder: Path, tmp_path: Path, short: list[DemoPrompt]) -> None:
    template = tmp_path / "tools.jinja"
    template.write_text(TOOLS, encoding="utf-8")
    where = {"type": "object", "properties": {"image": {"type": "integer"}}, "required": ["image"]}
    tool = {
        "type": "function",
        "function": {"name": "show", "description": "Show an image.", "parameters": where},
    }
    with running(
        folder, "--kv-ratio", "0.2", "-c", "2048", "--chat-template-file", str(template)
    ) as server:
        begun = [*messages(short[0]), {"role": "assistant", "content": "<tool_call>\n"}]
        body = {"messages": begun, "temperature": 0, "max_tokens": 100}
        answer = server.post("/v1/chat/completions", tools=[tool], tool_choice="required", **body)
    call = answer["choices"][0]["message"]["tool_calls"][0]
    assert call["function"]["name"] == "show"
    assert isinstance(json.loads(call["function"]["arguments"])["image"], int)
    prompt, kept = _kept(answer)
    assert kept < prompt


def test_children_of_a_completion(sums: Server) -> None:
    alone = sums.complete(TOKENS)
    before = sums.metrics()["lookm:prompts_compressed_total"]
    answers = sums.http.post(
        "/completion",
        json={"prompt": TOKENS, "n_cmpl": 3, "n_predict": 8, "temperature": 0, "ignore_eos": True}
        | {"cache_prompt": False},
    ).json()
    assert [answer["content"] for answer in answers] == [alone["content"]] * 3
    assert sums.metrics()["lookm:prompts_compressed_total"] == before + 1


def test_embeddings_are_left_alone(tmp_path: Path) -> None:
    model = str(write_llama(tmp_path / "model.gguf", N_EMBD))
    flags = ("-m", model, "--embeddings", "--pooling", "mean", "--metrics", "-c", "512", "-np", "2")
    texts = ["a text of some length " * 4, "another one"]
    got = []
    for ratio in ("1", "0.2"):
        server = launch(tmp_path / "log", *flags, "--kv-ratio", ratio, "--kv-method", "h2o")
        got.append(server.post("/v1/embeddings", input=texts)["data"])
        assert server.stop() == 0
        assert not server.lines(" compress:")
    assert got[0] == got[1]
    assert len(got[0]) == 2


def test_a_slot_is_erased_while_it_answers(sums: Server) -> None:
    sums.erase_slots()
    alone = sums.complete(TOKENS, id_slot=0, n_predict=40)
    with sums.http.stream(
        "POST",
        "/completion",
        json={
            "prompt": TOKENS,
            "id_slot": 0,
            "n_predict": 40,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        },
    ) as response:
        lines = response.iter_lines()
        pieces = [
            json.loads(next(line for line in lines if line.startswith("data: "))[6:])["content"]
        ]
        sums.post("/slots/0?action=erase")  # llama-server waits for the answer's end
        pieces += [json.loads(line[6:])["content"] for line in lines if line.startswith("data: ")]
    assert "".join(pieces) == alone["content"]
    again = sums.complete(TOKENS, id_slot=0, n_predict=40)
    assert (again["tokens"], _kept(again)) == (alone["tokens"], _kept(alone))


def test_content_is_untouched_by_settings_that_do_not_apply(
    server: Server, short: list[DemoPrompt]
) -> None:
    """Ratio 1 on a compressing server is the answer of the whole cache, whatever ran in that slot
    before.
    """
    server.erase_slots()
    whole = server.chat(short[0], kv_ratio=1, id_slot=0)
    server.chat(short[0], id_slot=0)
    assert content(server.chat(short[0], kv_ratio=1, id_slot=0)) == content(whole)
