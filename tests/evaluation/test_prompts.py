"""What the suites for chat models ask, checked by other means than those that made it."""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from lookm_cpp.evaluation import code_prompts, document_prompts, long_prompts, picture_prompts
from lookm_cpp.evaluation.conversation_prompts import LATER, make_conversation
from lookm_cpp.evaluation.documents import Fact
from lookm_cpp.evaluation.facts import FactsQuestion
from lookm_cpp.evaluation.long_prompts import ListQuestion
from lookm_cpp.evaluation.passkey_prompts import DEPTHS, sized_contexts
from lookm_cpp.evaluation.pictures import load_pictures
from lookm_cpp.evaluation.suite import Context

NUMBERS = range(24)
MAKERS = [document_prompts.make_context, code_prompts.make_context, long_prompts.make_context]


def _tokens(text: str) -> list[str]:
    """Words and figures in lower case, without the punctuation around them."""
    return [word.strip(".,;:|`()=\"'").lower() for word in text.split()]


def _occurrences(value: str, text: str) -> int:
    wanted, words = value.lower().split(), _tokens(text)
    return sum(words[i : i + len(wanted)] == wanted for i in range(len(words)))


@pytest.mark.parametrize("make", MAKERS)
def test_contexts_are_their_own_and_can_be_made_again(make: Callable[[int, int], Context]) -> None:
    contexts = [make(number, 0) for number in NUMBERS]
    assert contexts == [make(number, 0) for number in NUMBERS]
    others = [make(number, 1) for number in NUMBERS]
    texts = [context.evictable[0] for context in (*contexts, *others)]
    assert len(set(texts)) == len(texts)
    assert [context.number for context in contexts] == list(NUMBERS)
    for context in contexts:
        assert context.text == ""
        assert len(context.questions) in (3, 4)
        assert all(question.begins and question.max_tokens for question in context.questions)
        for question in context.questions:
            assert question.score(question.answer) == 1 or isinstance(question, ListQuestion)
            assert question.score("") == question.score(question.begins) == 0


@pytest.mark.parametrize("make", [document_prompts.make_context, long_prompts.make_context])
def test_a_document_tells_every_fact_once(make: Callable[[int, int], Context]) -> None:
    for number in NUMBERS:
        context = make(number, 0)
        (text,) = context.evictable
        assert 1200 <= len(text.split()) < 1400
        sentences = re.split(r"(?<=\.)\s+", text)
        for question in context.questions:
            assert isinstance(question, FactsQuestion)
            for spellings in question.facts:
                assert _occurrences(spellings[0], text) == 1, spellings
                assert _occurrences(spellings[0], question.begins + question.text) == 0
        for question in context.questions:
            if isinstance(question, ListQuestion):
                for name, (value, *_) in zip(question.names, question.facts, strict=True):
                    (told,) = [line for line in sentences if _occurrences(value, line)]
                    assert name in told


def test_a_document_asks_about_the_subject_of_the_sentence() -> None:
    for number in NUMBERS:
        context = document_prompts.make_context(number, 0)
        one, two, other = context.questions
        sentences = re.split(r"(?<=\.)\s+", context.evictable[0])
        for question in (one, two, other):
            assert isinstance(question, FactsQuestion)
            for value, *_ in question.facts:
                (told,) = [line for line in sentences if _occurrences(value, line)]
                names = re.findall(r"[A-Z]\w+ [A-Z]\w+|[\w-]+ project", question.text)
                assert any(name in told for name in names), (question, told)
        assert len(two.answer.split(" and ")) == 2
        assert two.score(two.answer.split(" and ")[0]) == 0.5


def test_long_answers_are_about_whom_the_question_names() -> None:
    for number in NUMBERS:
        questions = long_prompts.make_context(number, 0).questions
        assert tuple(question.task for question in questions) == long_prompts.TASKS
        for question, n_names, n_facts in zip(questions, (1, 1, 1, 2), (5, 3, 5, 10), strict=True):
            assert isinstance(question, ListQuestion)
            assert len(set(question.names)) == n_names
            assert all(name in question.text for name in question.names)
            assert question.names[0] in question.begins
            assert len(question.facts) == n_facts
            right = [
                f"{name}: {values[-1]}"
                for name, values in zip(question.names, question.facts, strict=True)
            ]
            assert question.score(". ".join(right)) == 1
            assert question.score(". ".join(right[:1])) == pytest.approx(1 / n_facts)


def test_a_fact_counts_where_it_belongs() -> None:
    asked = ListQuestion(
        "", "", "", facts=(("Ashton",), ("1234",), ("Denham",)), names=("Ann Lee", "Ann Lee", "Bo")
    )
    assert asked.score("1. Ann Lee, Ashton, 1234\n2. Bo, Denham") == 1
    assert asked.score("1. Ann Lee, Denham, 1234\n2. Bo, Ashton") == pytest.approx(1 / 3)
    assert asked.score("Ashton, 1234, Denham") == 0
    assert asked.score("Bo: Denham. Ann Lee: 1234. Bo: Ashton. Ann Lee: Ashton.") == 1
    begun = replace(asked, begins="Ann Lee lives in")
    assert begun.score("Ashton. Denham is no number, 1234 is.") == pytest.approx(2 / 3)


def test_facts_are_whole_words_in_several_spellings() -> None:
    asked = FactsQuestion("", "", "", facts=(("owl",), ("412,000", "412000")), ends="\n")
    assert asked.score("Two OWLS cost 412000.") == 1
    assert asked.score("An owl.\n412,000") == 0.5
    assert asked.score("A fowl, 1412000 or 412,0001.") == 0
    assert "March 14th" in Fact("end", "zoo", "14 March").spellings()


def test_code_and_tables_say_what_is_asked() -> None:
    seen = set()
    for number in NUMBERS:
        context = code_prompts.make_context(number, 0)
        (text,) = context.evictable
        parameter, constant, cell = context.questions
        language, source = re.findall(r"```(python|c)\n(.*?)\n```", text, re.DOTALL)[0]
        defaults, callers = (_read_python if language == "python" else _read_c)(source)
        (name,) = [name for name in defaults if f"`{name}`" in parameter.text]
        assert defaults[name] == int(parameter.answer)
        assert f"`{callers[constant.answer]}`" in constant.text
        table = text[text.index("File `stock") :]
        column, product = re.findall(r"what is the (\w+) of the (.*)\?", cell.text)[0]
        (row,) = [row for row in _rows(table) if row["product"] == product]
        assert row[column] == cell.answer
        assert _occurrences(parameter.answer, re.sub(r"[^\w]", " ", text)) == 1
        assert _occurrences(cell.answer, re.sub(r"[^\w]", " ", text)) == 1
        seen.add((language, "csv" in table, number % 2))
    assert seen == {("python", True, 0), ("python", True, 1), ("c", False, 0), ("c", False, 1)}


def _read_python(source: str) -> tuple[dict[str, int], dict[str, str]]:
    defaults, callers = {}, {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            (default,) = node.args.defaults
            defaults[node.name] = ast.literal_eval(default)
            for used in ast.walk(node):
                if isinstance(used, ast.Name) and used.id.isupper():
                    callers[used.id] = node.name
    return defaults, callers


def _read_c(source: str) -> tuple[dict[str, int], dict[str, str]]:
    defaults: dict[str, int] = {}
    callers: dict[str, str] = {}
    for name, body in re.findall(r"^long (\w+)\(.*?\)\n\{\n(.*?)^\}", source, re.DOTALL | re.M):
        (defaults[name],) = map(int, re.findall(r"== 0\)\n +\w+ = (\d+);", body))
        callers |= dict.fromkeys(re.findall(r"\b[A-Z]+_[A-Z]+\b", body), name)
    return defaults, callers


def _rows(table: str) -> list[dict[str, str]]:
    if "```csv" in table:
        return list(csv.DictReader(io.StringIO(table.split("```csv\n")[1].split("```")[0])))
    head, _, *rows = [line.strip("| ").split(" | ") for line in table.splitlines() if "|" in line]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_conversations_ask_again_about_what_was_not_asked() -> None:
    pool = load_pictures()
    shown = {picture.image.tobytes(): picture.names for picture in pool}
    for number in NUMBERS:
        conversation = make_conversation(pool, number, 0)
        turns = conversation.turns
        assert turns == make_conversation(pool, number, 0).turns
        assert [turn.question.task for turn in turns] == ["new"] * 4 + ["asked_again", "fact_again"]
        assert [len(turn.images) for turn in turns] == [2, 2, 2, 2, 0, 0]
        images = [image for turn in turns for image in turn.images]
        names = [shown[image.tobytes()] for image in images]
        assert len(set(names)) == len(names)
        for turn in turns[:-1]:
            (place,) = re.findall(r"What is in picture (\d)", turn.text)
            assert names[int(place) - 1] == (turn.question.answer,)
            assert turn.text.count("<image>") == len(turn.images)
        assert turns[LATER].question.answer != turns[0].question.answer
        assert (turns[LATER].question.answer,) in [
            shown[image.tobytes()] for image in turns[0].images
        ]
        told, asked = turns[LATER + 1 - LATER].context, turns[LATER + 1].question
        (person,) = re.findall(r"code of (\w+)\?", asked.text)
        assert f"The code of {person} is {asked.answer}." in told
        assert sum(_occurrences(asked.answer, turn.text + turn.context) for turn in turns) == 1


def test_pictures_show_what_is_asked() -> None:
    pool = load_pictures()
    named = {picture.image.tobytes(): picture.names for picture in pool}
    for number in NUMBERS:
        context = picture_prompts.make_context(pool, number, 0)
        shown = [named[image.tobytes()] for image in context.images]
        assert context.text.count("<image>") == len(shown)
        asked = {question.task: question for question in context.questions}
        (place,) = re.findall(r"image (\d)", asked["needle"].text)
        assert shown[int(place) - 1] == (asked["needle"].answer,)
        if "retrieval" in asked:
            (thing,) = re.findall(r"Which image shows an? (.*)\? Answer", asked["retrieval"].text)
            assert shown[int(asked["retrieval"].answer) - 1] == (thing,)
            assert sum(thing in names for names in shown) == 1
        if "counting" in asked:
            (thing,) = re.findall(r"How many images show an? (.*)\? Answer", asked["counting"].text)
            assert sum(thing in names for names in shown) == int(asked["counting"].answer)
        (person,) = re.findall(r"code of (\w+)\?", asked["text_needle"].text)
        assert f"The code of {person} is {asked['text_needle'].answer}." in context.text


def test_passkeys_in_texts_of_given_lengths() -> None:
    """With bytes for cells: no text is longer than it may be, nor shorter by a sentence."""
    lengths = [300, 1000, 4000]
    contexts = sized_contexts(lengths, 5, 0, lambda text: len(text.encode()))
    assert [context.number for context in contexts] == [n for n in range(5) for _ in lengths]
    for i, context in enumerate(contexts):
        (text,), (asked,) = context.evictable, context.questions
        length = lengths[i % len(lengths)]
        assert length - 60 < len(text) <= length
        assert text.count(asked.answer) == 2
        assert asked.task == f"{length}_cells"
        begins = text.index("The secret number is")
        if length == lengths[-1]:
            assert begins / length == pytest.approx(DEPTHS[context.number], abs=0.05)
    with pytest.raises(ValueError, match="--cells has 20, expected at least"):
        sized_contexts([20], 1, 0, len)
