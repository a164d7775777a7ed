"""``lookm eval tiny``: prompts that the model can answer, equal bytes, a run that goes on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp import methods
from lookm_cpp.cli import main
from lookm_cpp.cli.eval_options import make_setup
from lookm_cpp.evaluation.arms import full_cache, known_methods, make_arms
from lookm_cpp.evaluation.pictures import load_pictures
from lookm_cpp.evaluation.records import Records
from lookm_cpp.evaluation.report import rows_of
from lookm_cpp.evaluation.suite import SuiteRun, run_suite
from lookm_cpp.evaluation.tiny_prompts import SIZES, TASKS, make_context

SETUP = make_setup("embedded")
Capture = pytest.CaptureFixture[str]


def test_a_ratio_that_is_found_is_an_arm_of_its_own() -> None:
    """Once for all budgets, and on f16 alone."""
    arms = {
        arm.key: arm.compression
        for arm in make_arms(["h2o", "lookm_plus@0.95"], [0.5, 0.2], ["f16", "q8_0"])
    }
    (key,) = (key for key in arms if "@" in key)
    assert key == "lookm_plus@0.95/f16/-"
    assert (arms[key].kv_ratio, arms[key].method, arms[key].quality) == ("auto", "lookm_plus", 0.95)
    assert arms[key].text_overflow == "evict"
    for wrong in ("lookm_plus@", "lookm_plus@high", "lookm_plus@0", "lookm_plus@1.5"):
        with pytest.raises(ValueError, match=f"{wrong}'"):
            make_arms([wrong], [0.5], [])
    with pytest.raises(ValueError, match="--methods has 'best', expected some of"):
        make_arms(["best@0.9"], [0.5], [])


def test_records_say_what_is_held(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "records.jsonl"
    command = ["eval", "tiny", "--contexts", "1", "--ratios", "0.2", "--caches", "f16"]
    command += ["--methods", "lookm_plus,lookm_plus@0.8", "--place", "after", "-o", str(file)]
    assert main([*command, "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert 0.05 < rows["lookm_plus@0.8"]["kept_share"] < 0.51
    _, *records = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    by_arm: dict[str, list[float | None]] = {}
    for record in records:
        by_arm.setdefault(record["arm"], []).append(record["attention_held"])
    assert {*by_arm["random/f16/0.2"]} == {None}
    for held in by_arm["lookm_plus@0.8/f16/-"]:
        assert held is not None
        assert 0.8 <= held < 1
    assert all(0 < (held or 0) < 1 for held in by_arm["lookm_plus/f16/0.2"])


def test_pictures_are_all_there() -> None:
    pictures = load_pictures()
    assert {
        kind: sum(p.kind == kind for p in pictures) for kind in ("grid", "single", "shape")
    } == {
        "grid": 160,
        "single": 96,
        "shape": 96,
    }
    assert all(picture.image.size == (64, 64) for picture in pictures)
    emoji = {name for picture in pictures if picture.kind != "shape" for name in picture.names}
    assert len(emoji) == 48
    assert all(len(set(picture.names)) == 4 for picture in pictures if picture.kind == "grid")


def test_right_answers_follow_from_the_pictures() -> None:
    pool = load_pictures()
    corners = ("top left", "top right", "bottom left", "bottom right")
    for number in range(30):
        context = make_context(pool, number, 0)
        assert len(context.pictures) == context.text.count("<image>") == SIZES[number % 3]
        for asked in context.questions:
            place = int((re.search(r"image (\d+)", asked.text) or [0, 1])[1])
            picture = context.pictures[place - 1]
            if asked.task == "text_needle":
                assert f" {asked.answer} " in f" {context.text}"
            elif asked.task == "easy_vqa":
                question = asked.text.partition(", ")[2]
                assert asked.answer == f"The answer is {dict(picture.questions)[question]}."
            elif asked.task == "description":
                assert asked.answer.count("Image ") == 4
            else:
                at = next((corners.index(c) for c in corners if c in asked.answer), 0)
                assert picture.names[at] in asked.answer
                assert picture.kind == ("single" if asked.task == "image_needle" else "grid")
        wrong = context.questions[0].answer.replace(".", "!")
        assert context.questions[0].score(wrong) == 0
    again, other = (make_context(pool, 5, seed) for seed in (0, 1))
    assert again.text == make_context(pool, 5, 0).text != other.text


def test_fields_are_those_of_all_methods_but_the_controls() -> None:
    given = {"scorer": "window", "window": 16}
    arms = make_arms(["h2o", "text_prior_pivot_merge"], [0.2], ["f16", "q8_0"], given)
    for arm in arms:
        control = arm.name in ("random", "streaming_llm", "full cache", "text cells only")
        assert arm.compression.scorer == (None if control else "window"), arm.key
    kept = make_arms(["text_prior_pivot_merge"], [0.2], ["f16"], {"text_overflow": "keep"})
    assert [arm.compression.text_overflow for arm in kept[2:]] == ["keep", "evict", "evict"]


def test_flags_of_compression_and_of_the_model(tmp_path: Path, capfd: Capture) -> None:
    run = ["eval", "tiny", "--quick", "--contexts", "1", "--place", "before", "--ratios", "0.3"]
    run += ["--methods", "h2o", "--json"]
    found = {}
    for name, flags in {
        "plain": ["-b", "64", "-fa", "off"],
        "window": ["--scorer", "window", "--window", "2"],
        "keep": ["--text-overflow", "keep"],
    }.items():
        assert main([*run, *flags, "-o", str(tmp_path / name)]) == 0
        found[name] = json.loads(capfd.readouterr().out)
    assert "scorer" not in found["plain"]
    assert (found["window"]["scorer"], found["window"]["window"]) == ("window", 2)
    rows = {name: {row["name"]: row for row in one["rows"]} for name, one in found.items()}
    assert rows["plain"]["random"] == rows["window"]["random"]
    assert rows["plain"]["h2o"] != rows["window"]["h2o"]
    assert main([*run, "-o", str(tmp_path / "window")]) == 2
    assert "belongs to another run" in capfd.readouterr().err
    assert main([*run, "--kv-cells", "64"]) == 2
    assert "--kv-cells" in capfd.readouterr().err


def test_arms_have_equal_bytes() -> None:
    assert set(known_methods()) == set(methods()) - {"origin"}
    arms = make_arms(["h2o", "text_prior_h2o"], [0.5, 0.2], ["f16", "q8_0", "q4_0"])
    assert [arm.key for arm in arms if arm.budget is None] == [
        "full cache/f16/-",
        "text cells only/f16/-",
        "full cache/q8_0/-",
        "full cache/q4_0/-",
    ]
    assert {arm.name for arm in arms if arm.cache == "q4_0"} == {
        "full cache",
        "text_prior_h2o",
        "random",
    }
    assert "random/q4_0/0.5" not in {arm.key for arm in arms}, "all of q4_0 is less"
    twice = make_arms(["h2o", "h2o", "random"], [0.5, 0.2, 0.5], ["q8_0", "f16", "q8_0"])
    assert [arm.key for arm in twice] == [
        arm.key for arm in make_arms(["h2o"], [0.5, 0.2], ["q8_0"])
    ]
    for wrong in ((["h3o"], [0.5], []), (["h2o"], [1.0], []), (["h2o"], [0.5], ["q5"])):
        with pytest.raises(ValueError, match="expected"):
            make_arms(*wrong)


def test_a_cache_of_two_types() -> None:
    """Bytes are those of the type that cells are kept in."""
    arms = {arm.key: arm for arm in make_arms(["lookm_plus"], [0.1], ["f16:q4_0", "q8_0"])}
    assert arms["lookm_plus/f16:q4_0/0.1"].compression.kv_ratio == pytest.approx(0.1 * 16 / 4.5)
    mixed = {arm.key: arm for arm in make_arms(["lookm_plus"], [0.1], ["q8_0+q4_0"])}
    assert mixed["lookm_plus/q8_0+q4_0/0.1"].compression.kv_ratio == pytest.approx(0.1 * 16 / 6.5)
    assert arms["lookm_plus/q8_0/0.1"].compression.kv_ratio == pytest.approx(0.1 * 16 / 8.5)
    with pytest.raises(
        ValueError, match=r"--caches has 'f16:q5', expected some of f16, q8_0, q4_0, f16:q4_0"
    ):
        make_arms(["lookm_plus"], [0.1], ["f16:q5"])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[SuiteRun, Path, list[dict[str, Any]]]:
    arms = make_arms(["h2o", "snapkv", "text_prior_pivot_merge"], [0.2], ["q8_0"])
    run = SuiteRun(
        "tiny", SETUP, arms, ("after", "before"), [make_context(load_pictures(), 0, 0)], 0, 160
    )
    path = tmp_path_factory.mktemp("tiny") / "records.jsonl"
    with Records(path, run.identity()) as records:
        run_suite(run, records, lambda done, total: None)
        return run, path, records.all


def test_rows_have_equal_bytes_and_the_scores_of_their_records(
    found: tuple[SuiteRun, Path, list[dict[str, Any]]],
) -> None:
    run, _, records = found
    rows = rows_of(run, records)
    assert len(rows) == 2 * len(run.arms)
    assert {row.prompts for row in rows} == {6}
    full = [row for row in rows if row.name == "full cache" and row.cache == "f16"]
    assert all(row.score > 85 and row.kept_share == row.bytes_share == 1 for row in full)
    assert all(set(row.tasks) == set(TASKS) for row in rows)
    given = [row for row in rows if row.budget is not None and "floor" not in row.name]
    assert all(row.bytes_share == pytest.approx(0.2, abs=0.006) for row in given), (
        "equal bytes, whatever the type"
    )
    q8 = [row for row in given if row.cache == "q8_0"]
    assert q8
    assert all(row.kept_share == pytest.approx(0.2 * 16 / 8.5, abs=0.01) for row in q8)
    text = next(row for row in rows if row.name == "text cells only")
    assert text.tasks["image_needle"] == 0 < text.tasks["text_needle"]
    beside = {(row.cache, row.budget): row.bytes_share for row in rows if row.name == "random"}
    for row in rows:
        at_equal_bytes = (
            row.budget is not None and abs(row.bytes_share - beside[row.cache, row.budget]) <= 0.01
        )
        assert (row.against_random is not None) == (at_equal_bytes and row.name != "random")
    more = [
        {**record, "kv_bytes": 1.2 * record["kv_bytes"]}
        for record in records
        if not record["arm"].startswith("h2o")
    ]
    assert any(row.against_random for row in rows_of(run, records) if row.name == "h2o")
    others = [record for record in records if record["arm"].startswith("h2o")]
    assert not any(
        row.against_random for row in rows_of(run, [*more, *others]) if row.name == "h2o"
    )


def test_a_run_goes_on(found: tuple[SuiteRun, Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    """Cut off at any line, it ends with the records of the whole one, and asks nothing twice."""
    run, path, records = found
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    cut = tmp_path / "cut.jsonl"
    cut.write_text("".join(lines[: len(lines) * 2 // 3])[:-20], encoding="utf-8")
    with Records(cut, run.identity()) as resumed:
        before = len(resumed.all)
        run_suite(run, resumed, lambda done, total: None)
    assert sorted(resumed.all, key=json.dumps) == sorted(records, key=json.dumps)
    assert before > len(lines) // 2
    with Records(cut, run.identity()) as complete:
        run_suite(run, complete, lambda done, total: None)
        assert len(complete.all) == len(records)


def test_the_command_prints_and_draws_every_method(capfd: Capture, tmp_path: Path) -> None:
    flags = [
        "--contexts",
        "1",
        "--methods",
        "h2o",
        "--ratios",
        "0.3",
        "--caches",
        "f16",
        "--place",
        "after",
    ]
    assert main(["eval", "tiny", *flags, "--json", "-o", str(tmp_path / "a.jsonl")]) == 0
    rows = json.loads(capfd.readouterr().out)["rows"]
    assert {row["name"] for row in rows} == {
        "full cache",
        "text cells only",
        "h2o",
        "random",
        "streaming_llm",
    }
    assert main(["eval", "tiny", *flags, "-o", str(tmp_path / "a.jsonl")]) == 0
    out, err = capfd.readouterr()
    assert (
        "6 prompts in each cell; of 1 contexts no intervals can be given, 8 are the fewest" in out
    )
    assert " to +" not in out
    assert "a-light.svg, a-dark.svg" in err
    assert all(
        "random" in (tmp_path / f"a-{theme}.svg").read_text(encoding="utf-8")
        for theme in ("light", "dark")
    )
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 5 * 6
    assert json.loads(lines[1])["arm"] == full_cache().key


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--place", "inside"], "--place is 'inside', expected after, before or both"),
        (["--contexts", "0"], "--contexts is 0, expected at least 1"),
        (["--ratios", "much"], "--ratios is 'much', expected numbers"),
        (["--ratios", "2"], "--ratios has 2, expected fractions between 0 and 1"),
        (["--methods", "h3o"], "--methods has 'h3o', expected some of h2o"),
        (["--output", "."], "--output '.' is a directory, expected a file"),
        (["--mmproj", "a.gguf"], "--mmproj is 'a.gguf', expected none"),
    ],
)
def test_mistakes_are_one_line(capfd: Capture, flags: list[str], message: str) -> None:
    assert main(["eval", "tiny", *flags]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"lookm: {message}")
    assert err.count("\n") == 1
