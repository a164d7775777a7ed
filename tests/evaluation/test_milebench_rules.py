"""MileBench's rules: values computed by hand, and for ROUGE those of the package it uses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lookm_cpp.evaluation.milebench_data import Dataset, Sample, read_dataset
from lookm_cpp.evaluation.milebench_metrics import chosen, letter, normalise, rouge_l, score
from lookm_cpp.evaluation.milebench_prompt import Limits, build_prompt


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The\tCat\nsat ", "the cat sat"),
        ("well-known", "well known"),  # touches no space: a space
        ("well- known", "well known"),  # touches one: deleted
        ("a-b and c- d", "ab and c d"),  # touches one somewhere: deleted everywhere
        ("1,000 well-known", "1000 wellknown"),  # thousands: all marks are deleted
        ("red, blue", "red blue"),
        ("red,blue", "red blue"),
        ("1, 2", "1 2"),  # no thousands; but a comma beside a space
        ("3.5 m.", "3.5 m"),
        (".5 a.b", ".5 ab"),
        ("it's 'fine'", "it's 'fine"),
        ('"quoted"', "quoted"),
        ("A/B;C", "a b c"),
        ("x=[1]{2}(3)<4>@`5`?!\\_+", "x  1  2  3  4   5"),
        ("." * 40, "." * 8),  # 32 at most
        ("", ""),
        ("* $ % & : ~ |", "* $ % & : ~ |"),  # no punctuation there
    ],
)
def test_answers_are_normalised_by_the_rules_of_milebench(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("dataset", "right", "given", "expected"),
    [
        ("TextNeedleInAHaystack", "Magic", "The word is: magic.", 1),
        ("TextNeedleInAHaystack", "magic", "magical", 0),
        ("ImageNeedleInAHaystack", "two words", "two words", 0),  # one word or none
        ("MMCoQA", "magic", "a magical word", 1),
        ("MMCoQA", "two words", "these are Two, words", 1),
        ("MMCoQA", "three", "two", 0),
    ],
)
def test_words_are_compared_by_the_rules_of_each_data_set(
    dataset: str, right: str, given: str, expected: int
) -> None:
    assert score(dataset, "open-ended", right, given) == expected


@pytest.mark.parametrize(
    ("given", "options", "expected"),
    [
        ("", ["x", "y", "z"], "C"),
        ("b the cat", ["the dog", "the cat"], "B"),
        ("i say a the dog not b the cat", ["the dog", "the cat"], "A"),  # leftmost
        ("b the cat not a the dog", ["the dog", "the cat"], "B"),
        ("it is the cat", ["the dog", "the cat"], "B"),
        ("it is th ecat", ["the dog", "the cat"], "B"),  # spaces are left out
        ("cathedral", ["cathedral", "cat"], "A"),
        ("cathedral", ["cat", "cathedral"], "A"),  # of two that begin alike the first one
        ("b", ["yes", "no"], "B"),
        ("the answer is b", ["yes", "no"], "AB"),  # every letter of an option
        ("z", ["yes", "no"], ""),
        ("option d", ["yes", "no", "x1", "x2"], "D"),  # no letter but d is an option's
        ("aa", ["w" + "x" * i for i in range(27)], "AA"),
        ("a 3.5", ["3.5", "345"], "A"),  # a period is a period
        ("3.5", ["3.5", "345"], ""),  # and keeps an option without its letter from being found
        ("345", ["3.5", "345"], "B"),
        ("a+", ["a", "b"], "A"),
    ],
)
def test_the_chosen_option_is_found_in_an_answer(
    given: str, options: list[str], expected: str
) -> None:
    assert chosen(given, options) == expected


def test_every_option_has_a_letter_of_its_own() -> None:
    assert [letter(i) for i in range(3)] == ["A", "B", "C"]
    assert len({letter(i) for i in range(700)}) == 700
    assert all(len(letter(i)) <= 2 for i in range(600))


def test_a_multi_choice_answer_scores_if_its_choice_is_right() -> None:
    choices = ["The dog.", "The cat!"]
    assert score("TQA", "multi-choice", "the cat", "B. The cat", choices) == 1
    assert score("TQA", "multi-choice", "The dog.", "B", choices) == 0
    assert score("TQA", "multi-choice", "The dog.", "", choices) == 0
    with pytest.raises(ValueError, match="expected one of the choices"):
        score("TQA", "multi-choice", "a bird", "B", choices)
    with pytest.raises(ValueError, match="question_type is 'essay'"):
        score("TQA", "essay", "a", "b")


# given, right, and what rouge 1.0.1's get_scores()[0]["rouge-l"]["f"] says
ROUGE = [
    ("right and 2.5 the disappeared left a blue sphere and added. left",
     "sphere left the moved large. right blue small blue", 0.421052627),
    ("red disappeared red red", "the moved moved", 0.0),
    ("blue of behind moved moved", "moved small of the and", 0.222222217),
    ("blue red right cube behind of the behind cube",
     "and of added. behind blue added. added.", 0.333333328),
    ("a right the and small", "large. and small", 0.499999995),
    ("the disappeared a blue moved sphere left disappeared and 2.5 and 2.5",
     "disappeared sphere and of a large. cube", 0.352941172),
    ("behind 2.5 and red behind right",
     "cube of behind of blue cube red of added. blue a", 0.307692303),
    ("red red large. sphere blue large.", "red a large. of red disappeared blue 2.5", 0.499999996),
    ("a of and right added. right of behind", "the added. right behind right", 0.599999995),
    ("the cube moved to the left. . ok", "the cube moved left", 0.727272723),
    ("3.5 people walk", "3.5 people ran", 0.749999995),
]  # fmt: skip


@pytest.mark.parametrize(("given", "right", "expected"), ROUGE)
def test_rouge_l_equals_values_computed_by_hand(given: str, right: str, expected: float) -> None:
    assert rouge_l(given, right) == pytest.approx(expected, abs=1e-9)


def test_open_ended_is_normalised_rouge() -> None:
    assert score("IEdit", "open-ended", "Remove the dog.", "remove the DOG!") == pytest.approx(
        1, abs=1e-7
    )
    assert score("IEdit", "open-ended", "Remove the dog.", " ") == 0


def _sample(
    context: str, n_images: int, n_places: int | None = None, choices: tuple[str, ...] = ()
) -> Sample:
    images = tuple(Path(f"{i}.png") for i in range(1, n_images + 1))
    return Sample(
        1,
        "Do it.",
        context,
        images,
        n_images if n_places is None else n_places,
        choices,
        "x",
        "Few",
    )


def _built(
    sample: Sample, max_context: int = 1000, name: str = "X", *, combined: bool = False
) -> tuple[str, list[str]]:
    """A token is a character, and a picture ten of them."""
    tokens = Limits(
        max_context,
        10,
        lambda text: [ord(c) for c in text],
        lambda tokens: "".join(map(chr, tokens)),
    )
    prompt = build_prompt(Dataset(name, "open-ended", (sample,)), sample, tokens, combined=combined)
    return prompt.text, [path.stem for path in prompt.images]


def test_a_prompt_has_instruction_images_and_choices() -> None:
    text, images = _built(_sample("See {image#1} and {table#2}: what?", 2, choices=("yes", "no")))
    assert (
        text
        == "Do it.\nSee <image> and <image>: what?\nChoice list: \nA. yes\nB. no\nYour answer is: "
    )
    assert images == ["1", "2"]
    text, _ = _built(_sample("{image#1}", 1, choices=("yes", "no")), name="GPR1200")
    assert text == "Do it.\n<image>\nChoice list: \nyes\nno\nYour answer is: "


def test_pictures_side_by_side_get_lines() -> None:
    assert (
        _built(_sample("{image#1}{image#2}Difference:", 2))[0]
        == "Do it.\n<image>\n<image>\nDifference:"
    )


@pytest.mark.parametrize(
    ("max_context", "expected", "images"),
    [
        # instruction 6; fragments "one" 3, "two" 3, "three?" 6, each picture 10
        (6 + 3 + 10 + 3 + 10 + 6, "one<image>two<image>three?", ["1", "2"]),
        (
            6 + 2 + 10 + 3 + 10 + 6,
            "<image>two<image>three?",
            ["1", "2"],
        ),  # the text before it does not fit
        (6 + 9 + 3 + 10 + 6, "two<image>three?", ["2"]),  # its picture does not
        (6 + 2 + 10 + 6, "<image>three?", ["2"]),
        (6 + 9 + 6, "three?", []),
        (6 + 4, "ree?", []),  # nothing but a piece of the last text
        (6, "", []),
        (3, "", []),
    ],
)
def test_prompt_is_cut_on_the_left(max_context: int, expected: str, images: list[str]) -> None:
    found = _built(_sample("one{image#1}two{image#2}three?", 2), max_context)
    assert found == (f"Do it.\n{expected}", images)


def test_pictures_and_places_that_do_not_match() -> None:
    assert _built(_sample("a {image#1} b {image#1} c?", 1)) == ("Do it.\na  b <image> c?", ["1"])
    assert _built(_sample("a {image#2} b?", 3)) == ("Do it.\n<image>a <image> b?", ["2", "3"])
    assert _built(_sample("a b?", 0)) == ("Do it.\na b?", [])
    assert _built(_sample("", 0)) == ("Do it.\n", [])


def test_combined_pictures_come_first() -> None:
    whole = _sample("See {image#1} and {image#2}?", 1, n_places=2)
    assert _built(whole, combined=True) == (
        "<image>\nDo it.\nSee <Image 1>  and <Image 2> ?",
        ["1"],
    )
    assert _built(whole, 6 + 11, combined=True) == ("<image>\nDo it.\n<Image 2> ?", ["1"])


def test_files_that_are_not_milebench(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected MileBench's TQA"):
        read_dataset(tmp_path, "TQA")
    (tmp_path / "TQA").mkdir()
    file = tmp_path / "TQA" / "TQA.json"
    entry = {"sample_id": 1, "task_instruction_id": 0, "response": "x"}
    instance = {"context": "", "images_path": []}
    for stored in (
        "{",
        json.dumps({"meta_data": {}}),
        json.dumps({"meta_data": {"task_instruction": [], "question_type": "open-ended"},
                    "data": [entry]}),
        json.dumps({"meta_data": {"task_instruction": [], "question_type": "open-ended"},
                    "data": [{**entry, "task_instance": instance}]}),
    ):  # fmt: skip
        file.write_text(stored)
        with pytest.raises(ValueError, match="is not in MileBench's form"):
            read_dataset(tmp_path, "TQA")
    twice = [{**entry, "task_instance": instance}] * 2
    file.write_text(
        json.dumps({"meta_data": {"task_instruction": ["a"], "question_type": "x"}, "data": twice})
    )
    with pytest.raises(ValueError, match="has a sample_id twice"):
        read_dataset(tmp_path, "TQA")
