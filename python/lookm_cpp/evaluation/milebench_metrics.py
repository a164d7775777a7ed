"""MileBench's metrics, rule by rule, oddities included: scores must compare with published ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

NEEDLE, COQA = "NeedleInAHaystack", "MMCoQA"
OPEN_ENDED, MULTI_CHOICE = "open-ended", "multi-choice"

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_MOST_PERIODS = 32  # MileBench passes a flag where re.sub takes a count
# MileBench compares a match with the escaped option, so an option with one of these never matches.
_SPECIAL = set("\\.^$*+?{}[]|()")
_NO_ANSWER = "C"  # an empty answer counts as this one


def normalise(text: str) -> str:
    """Lower case without punctuation.

    A mark that touches a space anywhere in the text is deleted, and otherwise becomes a space; all
    marks are deleted where a comma stands between digits. The first 32 periods that no digit
    follows are deleted.

    >>> normalise("A well-known fact, (Fig.2)!")
    'a well known fact fig.2'
    >>> normalise("1,000 - a well-known number.")
    '1000  a wellknown number'
    """
    text = text.replace("\n", " ").replace("\t", " ").strip()
    thousands = re.search(r"\d,\d", text) is not None
    out = text
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        out = out.replace(mark, "" if beside_space or thousands else " ")
    out = re.sub(r"\.(?!\d)", "", out, count=_MOST_PERIODS)
    return out.strip("'").strip('"').strip().lower()


def score(
    dataset: str, question_type: str, right: str, given: str, choices: Sequence[str] = ()
) -> float:
    """The score of one answer, in [0, 1].

    Raises:
        ValueError: The type of question is unknown, or the right answer is not one of the choices.
    """
    if NEEDLE in dataset:
        return float(normalise(right) in normalise(given).split())
    if COQA in dataset:
        return float(normalise(right) in normalise(given))
    if question_type == OPEN_ENDED:
        return rouge_l(normalise(given), normalise(right))
    if question_type != MULTI_CHOICE:
        raise ValueError(
            f"question_type is {question_type!r}, expected {MULTI_CHOICE} or {OPEN_ENDED}"
        )
    options = [normalise(choice) for choice in choices]
    if normalise(right) not in options:
        raise ValueError(f"response is {right!r}, expected one of the choices {list(choices)}")
    return float(chosen(normalise(given), options) == letter(options.index(normalise(right))))


def letter(index: int) -> str:
    """The letter of a choice: A to Z, then AA, AB, ..., BA, ...

    >>> [letter(i) for i in (0, 25, 26, 51, 52)]
    ['A', 'Z', 'AA', 'AZ', 'BA']
    """
    first, last = divmod(index, 26)
    return (chr(64 + first) if first else "") + chr(65 + last)


def chosen(given: str, options: Sequence[str]) -> str:
    """The letter of the option that a normalised answer chooses among normalised options.

    The first rule that applies decides:

    1. The leftmost "letter option" in the answer; its first character counts.
    2. The leftmost option, with all spaces removed, unless it contains a character that is special
       in a pattern.
    3. The answer, if it is a letter and nothing else.
    4. All characters of the answer that are letters of options. This is right only if there is
       exactly one.

    >>> chosen("i think b the cat", ["a dog", "the cat"]), chosen("thecat", ["a dog", "the cat"])
    ('B', 'B')
    >>> chosen("the answer is b", ["dog", "cat"])
    'AB'
    """
    if not given:
        return _NO_ANSWER
    letters = [letter(i) for i in range(len(options))]
    # The letter is normalised together with its option.
    lettered = [
        re.escape(normalise(f"{name} {option}"))
        for name, option in zip(letters, options, strict=True)
    ]
    if found := re.search("|".join(lettered), given, re.DOTALL):
        return found[0][:1].upper()
    bare = [option.replace(" ", "") for option in options]
    found = re.search("|".join(map(re.escape, bare)), given.replace(" ", ""), re.DOTALL)
    if found and not _SPECIAL & set(found[0]):
        return letters[bare.index(found[0])]
    if len(given) <= 2 and given.upper() in letters:
        return given.upper()
    return "".join(character.upper() for character in given if character.upper() in letters)


def rouge_l(given: str, right: str) -> float:
    """F-score of the union LCS over sentences, as in the package ``rouge`` 1.0.1.

    This is not the usual ROUGE-L. Sentences end at periods. For each sentence of ``right``, its
    longest common subsequences with the sentences of ``given`` are joined as sets of words, so a
    word counts once in the whole text. Recall and precision are the number of such words divided by
    the number of different words of each text.

    >>> round(rouge_l("the cat sat on the mat", "the dog sat on the mat"), 4)
    0.8
    """
    hypothesis, reference = _sentences(given), _sentences(right)
    in_hypothesis, in_reference = (
        {word for words in text for word in words} for text in (hypothesis, reference)
    )
    if not in_hypothesis or not in_reference:
        return 0.0
    common: set[str] = set()
    for words in reference:
        for others in hypothesis:
            common |= set(_common_words(words, others))
    recall, precision = len(common) / len(in_reference), len(common) / len(in_hypothesis)
    return 2 * recall * precision / (recall + precision + 1e-8)


def _sentences(text: str) -> list[list[str]]:
    """The sentences as lists of words; a sentence of spaces is one empty word."""
    return [sentence.split() or [""] for sentence in text.split(".") if sentence]


def _common_words(a: Sequence[str], b: Sequence[str]) -> list[str]:
    """A longest common subsequence.

    If there are several, it is the one that drops words of ``b`` first, from the end.
    """
    length = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            length[i + 1][j + 1] = (
                length[i][j] + 1 if x == y else max(length[i][j + 1], length[i + 1][j])
            )
    words: list[str] = []
    i, j = len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            words.append(a[i - 1])
            i, j = i - 1, j - 1
        elif length[i - 1][j] > length[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words
