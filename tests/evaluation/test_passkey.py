"""``lookm eval passkey``: a number in a text that may be evicted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lookm_cpp.cli import main
from lookm_cpp.evaluation.passkey_prompts import DEPTHS, embedded_contexts, text_contexts
from lookm_cpp.evaluation.pictures import load_pictures
from session.tiny_models import write_llama

Capture = pytest.CaptureFixture[str]


def test_the_number_lies_where_it_should() -> None:
    contexts = text_contexts(200, 2, 0)
    assert [context.number for context in contexts] == [0] * len(DEPTHS) + [1] * len(DEPTHS)
    for context, depth in zip(contexts, DEPTHS * 2, strict=True):
        (text,) = context.evictable
        (asked,) = context.questions
        assert text.count(asked.answer) == 2
        begins = text.index("The secret number is")
        assert begins / len(text) == pytest.approx(depth, abs=0.02)
        assert text.count(". ") == 200 + 2
        assert asked.score(f"It is {asked.answer}.") == 1
        assert asked.score(f"It is {asked.answer}0.") == asked.score("") == 0
    assert contexts[0].questions[0].answer != contexts[5].questions[0].answer


def test_embedded_contexts_tell_what_is_asked() -> None:
    for context in embedded_contexts(load_pictures(), 3, 0):
        (told,), (asked,) = context.evictable, context.questions
        person = asked.text.removeprefix(" What is the code of ").removesuffix("?")
        assert f"The code of {person} is {asked.answer}." in told
        assert told.count("code") == int(asked.task.split("_")[0])
        assert context.text.count("<image>") == len(context.images) == 4


def test_the_embedded_model_finds_codes_better_with_scores_than_at_random(
    capfd: Capture, tmp_path: Path
) -> None:
    flags = ["--trials", "2", "--ratios", "0.5", "--methods", "text_prior_h2o"]
    assert main(["eval", "passkey", *flags, "--json", "-o", str(tmp_path / "a.jsonl")]) == 0
    found = json.loads(capfd.readouterr().out)
    rows = {(row["place"], row["name"]): row for row in found["rows"]}
    for place in ("after", "before"):
        assert rows[place, "full cache"]["score"] == 100
        assert rows[place, "text cells only"]["score"] == 0, (
            "the codes are not among the cells that always stay"
        )
        assert rows[place, "text_prior_h2o"]["score"] > rows[place, "random"]["score"]
        assert rows[place, "text_prior_h2o"]["kept_share"] == pytest.approx(0.5, abs=0.01)


def test_passkey_takes_any_text_model(capfd: Capture, tmp_path: Path) -> None:
    """A random model finds nothing, and its cache is compressed all the same."""
    model = str(write_llama(tmp_path / "model.gguf", n_ctx=1024))
    flags = [
        "--trials",
        "1",
        "--ratios",
        "0.2",
        "--methods",
        "text_prior_pivot_merge",
        "--filler",
        "3",
        "--threads",
        "1",
    ]
    assert main(["eval", "passkey", "-m", model, *flags, "--place", "before", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)["rows"]}
    assert {row["prompts"] for row in rows.values()} == {5}
    assert rows["text_prior_pivot_merge"]["kept_share"] == pytest.approx(0.2, abs=0.01)
    assert set(rows["full cache"]["tasks"]) == {f"depth_{depth:.0%}" for depth in DEPTHS}
    assert main(["eval", "passkey", "-m", model, *flags, "--trials", "0"]) == 2
    assert capfd.readouterr().err == "lookm: --trials is 0, expected at least 1\n"
    assert main(["eval", "passkey", "-m", model, *flags, "--filler", "1000"]) == 2
    err = capfd.readouterr().err
    assert "do not fit into n_ctx 1024" in err
    assert err.count("\n") == 1
