"""Chat templates that would overflow the stack, go on for hours or fill memory: an error, soon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from core_session import Session
from fuzz.gguf_mutations import GgufFile
from lookm_cpp import Llava
from lookm_cpp.embedded import MODEL

TEMPLATE = "tokenizer.chat_template"
REPOSITORY = Path(__file__).parents[2]
UPSTREAM = sorted(REPOSITORY.glob("build/dev/_llama_cpp/*/models/templates/*.jinja"))
NS = "{% set ns = namespace(s='aaaaaaaa') %}"
LIST = "{% set ns = namespace(s=[1, 2]) %}"

HOSTILE = {
    "a macro that calls itself": "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
    "only with messages": "{% macro m(x) %}{{ m(x + 1) }}{% endmacro %}"
    "{% if messages %}{{ m(1) }}{% endif %}",
    "20,000 brackets": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "brackets that never close": "{{ " + "[" * 5_000,
    "negations": "{{ " + "not " * 20_000 + "1 }}",
    "a long sum": "{{ " + "1 + " * 10_000 + "1 }}",
    "filters": "{{ 'a'" + "|upper" * 10_000 + " }}",
    "members": "{{ a" + ".b" * 10_000 + " }}",
    "calls of calls": "{{ a" + "()" * 10_000 + " }}",
    "ifs": "{% if 1 %}" * 5_000,
    "ifs whose depth is hidden": "{% if 1 %}{% endgeneration %}" * 4_000 + "{% endif %}" * 4_000,
    "sets": "{% set x %}" * 8_000,
    "branches": "{% if 0 %}" + "{% elif 0 %}" * 5_000 + "{% endif %}",
    "30 million rounds": "{% for i in range(30000000) %}{% endfor %}",
    "rounds within rounds": "{% for i in range(9999) %}{% for j in range(9999) %}"
    "{% endfor %}{% endfor %}",
    "a text that doubles": NS + "{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "a list that doubles": LIST
    + "{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "a text repeated": "{{ 'a' * 1000000000000 }}",
    "a text replaced": NS
    + "{% for i in range(20) %}{% set ns.s = ns.s|replace('a', 'aaaaaaaaaaaa') %}{% endfor %}",
    "an indent": "{{ 'a\nb'|indent(100000000000) }}",
    "an indent of JSON": "{{ [[[1]]]|tojson(indent=2000000000) }}",
    "a list in itself": "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns|tojson }}",
    "half a million lists in lists": LIST
    + "{% for i in range(500000) %}{% set ns.s = [ns.s] %}{% endfor %}",
}


def with_template(path: Path, template: str) -> Path:
    path.write_bytes(GgufFile.read(MODEL).with_value(TEMPLATE, template).pack())
    return path


@pytest.mark.timeout(20)
@pytest.mark.parametrize("template", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_template_is_an_error(tmp_path: Path, template: str) -> None:
    model = with_template(tmp_path / "model.gguf", template)
    with (
        pytest.raises(ValueError, match=r"chat template.*the template .*, more than \d+"),
        Llava(model, mmproj=False, n_threads=1) as llm,
    ):
        llm.ask("Hello", max_tokens=4)


@pytest.mark.timeout(20)
def test_what_the_messages_make_of_a_template(tmp_path: Path) -> None:
    """A template that is harmless until a message says otherwise; the session lives on."""
    rounds = "{% for i in range(9999999) %}{% endfor %}"
    template = (
        "{% for m in messages %}{% if m.content == 'go' %}" + rounds + "{% endif %}{% endfor %}x"
    )
    with Llava(with_template(tmp_path / "model.gguf", template), mmproj=False, n_threads=1) as llm:
        for _ in range(2):
            llm.ask("Hello", max_tokens=2)
            with pytest.raises(
                ValueError,
                match="messages: the chat template rejects them: the template takes too many",
            ):
                llm.ask("go", max_tokens=2)


def test_an_error_of_syntax_says_where(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = with_template(tmp_path / "model.gguf", "{% for m in messages %}{{ m.content")
    with pytest.raises(
        ValueError,
        match=r"model_path: its chat template cannot be read: .*(?i:pars|unexpected|lexer)",
    ):
        Llava(model, mmproj=False, n_threads=1)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(
    not UPSTREAM, reason="needs the templates in a llama.cpp that the build has fetched"
)
def test_no_limit_is_in_the_way_of_templates_that_are_in_use(tmp_path: Path) -> None:
    conversation = [
        {"role": ("user", "assistant")[i % 2], "content": f"Number {i}: what is in these images?"}
        for i in range(101)
    ]
    for file in UPSTREAM:
        model = with_template(tmp_path / "model.gguf", file.read_text(encoding="utf-8"))
        session = Session(str(model), "", n_threads=1)
        prompt = session.apply_template(json.dumps(conversation))
        assert "Number 100" in prompt, file.name
        session.close()
