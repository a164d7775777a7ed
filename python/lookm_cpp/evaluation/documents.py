"""Invented documents about people, firms and projects, and the facts that they tell."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lookm_cpp.evaluation.fiction import Fiction
from lookm_cpp.parsing import words


@dataclass(frozen=True)
class Kind:
    """A kind of fact about ``{n}``; ``{v}`` stands for its value.

    ``two`` is a question about two subjects, ``{n}`` and ``{m}``, if there is one.
    """

    sentences: tuple[str, ...]
    question: str
    begins: str
    two: str = ""


@dataclass(frozen=True)
class Fact:
    """One fact: its kind, a key of ``KINDS``, the name of its subject, and the value."""

    kind: str
    name: str
    value: str

    def spellings(self) -> tuple[str, ...]:
        """Ways to write the value.

        >>> Fact("end", "zoo", "14 March").spellings()
        ('14 March', '14th March', '14th of March', 'March 14', 'March 14th')
        >>> Fact("end", "zoo", "22 May").spellings()[1], Fact("end", "zoo", "13 May").spellings()[1]
        ('22nd May', '13th May')
        >>> Fact("budget", "zoo", "412,000").spellings()
        ('412,000', '412000')
        >>> Fact("leader", "zoo", "Nora Lang").spellings()
        ('Nora Lang', 'Lang')
        """
        first, _, last = self.value.partition(" ")
        if first.isdigit() and last:
            ordinal = first + {"1": "st", "2": "nd", "3": "rd"}.get(first[-1], "th")
            if 10 < int(first) < 14:
                ordinal = f"{first}th"
            days = (first, ordinal, f"{ordinal} of")
            return (*(f"{day} {last}" for day in days), f"{last} {first}", f"{last} {ordinal}")
        return (self.value, last or self.value.replace(",", ""))


DIRECT: dict[str, Kind] = {  # sentence and question use the same words
    "home": Kind(
        (
            "{n} lives in {v}.",
            "Like many others, {n} lives in {v}.",
            "For some years now, {n} has lived in {v}.",
        ),
        "In which town does {n} live?",
        "{n} lives in",
        "In which towns do {n} and {m} live? Name both.",
    ),
    "phone": Kind(
        (
            "In the telephone list, the number of {n} is {v}.",
            "Those who want to call can do so: the number of {n} is {v}.",
            "The telephone number of {n} is still {v}.",
        ),
        "What is the telephone number of {n}?",
        "The telephone number of {n} is",
    ),
    "founded": Kind(
        (
            "{n} was founded in {v}.",
            "With borrowed money, {n} was founded in {v}.",
            "As an old sign above the door says, {n} was founded in {v}.",
        ),
        "In which year was {n} founded?",
        "{n} was founded in",
        "In which years were {n} and {m} founded? Name both.",
    ),
    "staff": Kind(
        (
            "At the last count, {n} employed {v} people.",
            "Today {n} employs {v} people.",
            "If nobody was forgotten, {n} employs {v} people.",
        ),
        "How many people does {n} employ?",
        "{n} employs",
        "How many people do {n} and {m} employ? Name both.",
    ),
    "budget": Kind(
        (
            "The budget of the {n} project is {v} euros.",
            "After a long debate, the budget of the {n} project was set to {v} euros.",
            "To the surprise of many, the budget of the {n} project is {v} euros.",
        ),
        "What is the budget of the {n} project?",
        "The budget of the {n} project is",
        "What are the budgets of the {n} project and of the {m} project? Name both.",
    ),
    "leader": Kind(
        (
            "The {n} project is led by {v}.",
            "For the time being, the {n} project is led by {v}.",
            "After a long search, the {n} project is led by {v}.",
        ),
        "Who leads the {n} project?",
        "The {n} project is led by",
        "Who leads the {n} project, and who leads the {m} project? Name both.",
    ),
    "end": Kind(
        (
            "The {n} project is to be finished on {v}.",
            "If all goes well, the {n} project will be finished on {v}.",
            "By contract, the {n} project has to be finished on {v}.",
        ),
        "When will the {n} project be finished?",
        "The {n} project will be finished on",
        "On which days will the {n} project and the {m} project be finished? Name both.",
    ),
}
_PARAPHRASED: dict[str, Kind] = {
    "childhood": Kind(
        (
            "{n} grew up in {v} and moved away at twenty.",
            "Born and raised in {v}, {n} left as soon as possible.",
        ),
        "In which town did {n} spend the childhood?",
        "{n} spent the childhood in",
    ),
    "job": Kind(
        (
            "{n} earns a living as a {v}, as one grandfather did.",
            "After many detours, {n} became a {v}.",
        ),
        "What is the profession of {n}?",
        "By profession, {n} is a",
    ),
    "instrument": Kind(
        (
            "At weekends {n} plays the {v} in a small band.",
            "Those who live next to {n} can hear the {v} through the wall.",
        ),
        "Which musical instrument has {n} mastered?",
        "{n} has mastered the",
    ),
    "colour": Kind(
        ("{n} drives an old {v} van.", "{n} comes to work in a small {v} car."),
        "What is the colour of the vehicle of {n}?",
        "The vehicle of {n} is",
    ),
    "pet": Kind(
        ("At home {n} keeps a {v}.", "{n} has a {v}, which everybody in the street knows."),
        "Which animal does {n} own?",
        "{n} owns a",
    ),
    "country": Kind(
        (
            "Every August {n} travels to {v}.",
            "{n} spends each summer in {v} with the family.",
        ),
        "Which country does {n} go to on holiday?",
        "On holiday, {n} goes to",
    ),
    "language": Kind(
        (
            "With the grandparents {n} still speaks {v}.",
            "{n} spoke nothing but {v} before going to school.",
        ),
        "What is the mother tongue of {n}?",
        "The mother tongue of {n} is",
    ),
    "weekday": Kind(
        ("The gates of {n} stay shut every {v}.", "Nobody works at {n} on a {v}."),
        "On which day of the week is {n} closed?",
        "{n} is closed every",
    ),
    "product": Kind(
        (
            "In the halls of {n}, one {v} after the other is made.",
            "{n} became known for a simple {v}, which is made to this day.",
        ),
        "What does {n} sell to its customers?",
        "{n} sells a",
    ),
    "site": Kind(
        (
            "The head office of {n} stands in {v}.",
            "The main building of {n} has always been in {v}.",
        ),
        "In which town are the headquarters of {n}?",
        "The headquarters of {n} are in",
    ),
}
KINDS = {**DIRECT, **_PARAPHRASED}
"""Every kind of fact. Each value is told once in a document."""

_OF_PEOPLE = (
    "home",
    "phone",
    "childhood",
    "job",
    "instrument",
    "colour",
    "pet",
    "country",
    "language",
)
_OF_FIRMS = ("founded", "staff", "weekday", "product", "site")
_OF_PROJECTS = ("budget", "leader", "end")

_ABOUT_PEOPLE = (
    "Neighbours describe {p} as patient, though not everybody agrees.",
    "Nobody can remember a meeting without {p}.",
    "Letters to {p} are answered within the week.",
    "A portrait by a friend of {n} hung in the corridor for a while.",
    "It was {n} who proposed the new timetable.",
    "Those who work with {p} speak of long evenings and short breaks.",
)
_ABOUT_FIRMS = (
    "The region would be poorer without it.",
    "For years it has supported the local choir.",
    "An outsider would hardly notice {n} at all.",
    "Its visitors have to sign a book at the entrance.",
    "Twice a year it invites the neighbours to a party.",
)
_ABOUT_PROJECTS = (
    "Few plans have been discussed as often.",
    "Its drawings can be seen in the town hall.",
    "A committee meets once a month to talk about the {n} project.",
    "Some people had hoped that it would be dropped.",
    "Schoolchildren wrote essays about it.",
)
_WHO = words(
    "The committee,The caretaker,The treasurer,The choir,A visitor,The board,"
    "An old member,The chairman,The neighbours,A group of students,The new secretary,"
    "One of the guests,The editor of this report,The gardener,A retired teacher,"
    "The cleaning staff"
)
_DID = words(
    "thanked all who had helped to carry the chairs,asked for more light in the corridor,"
    "read the minutes of the last meeting aloud,found a bag of gloves under the stairs,"
    "spoke about the price of paper,wished everybody a safe journey,"
    "repaired the gate behind the hall,put up a notice about the heating,"
    "complained about the draught in the reading room,"
    "suggested a longer break after lunch,planted a row of bushes along the path,"
    "could not agree on a motto,sent a letter to the newspaper and got no answer,"
    "collected old postcards and maps,proposed to move the party into the tent,"
    "served coffee and cake after the session,hung new curtains in the meeting room,"
    "counted the votes once more,showed slides of an excursion to the coast,"
    "lost the keys and found them again,took photographs for the appendix,"
    "wrote a poem about the occasion,checked the figures and found a small error,"
    "arranged the books by size"
)
_WHEN = (
    "",
    *words(
        "in spring,as every year,without much ado,to general applause,on a rainy evening,"
        "after a short debate,at the end of the meeting,for the first time,"
        "in the coldest week,once again"
    ),
)

N_FILLERS = 4
"""Sentences without a fact at the beginning or end of a paragraph; twice as many in a uniform
document. There are none in between, where a pronoun would lose its name."""


def make_document(
    rng: random.Random, n_words: int, *, uniform: bool = False
) -> tuple[str, list[Fact]]:
    """A text of at least ``n_words`` words, and the facts it tells, each of them once.

    Args:
        rng: Chooses everything.
        n_words: About the length.
        uniform: Tell the same about all people, all firms and all projects, of which there are
            half as many. By default, a kind of fact is told of two subjects at most. Both is so
            that small models can tell them apart.

    Raises:
        ValueError: ``n_words`` is so large that the invented names run out.
    """
    fiction, facts = Fiction(rng), list[Fact]()
    fillers: list[str] = []
    paragraphs = [f"Annual report of the {fiction.town()} district"]
    length, n = 0, 0
    while length < n_words:
        subject = _SUBJECTS[n % len(_SUBJECTS)]
        kinds = subject.uniform if uniform else _left(rng, subject, facts)
        told, lines = _told(fiction, subject, kinds)
        facts += told
        for _ in range(2 * N_FILLERS if uniform else N_FILLERS):
            fillers = fillers or _fillers(rng)
            lines.insert(rng.choice((0, len(lines))), fillers.pop())
        paragraphs.append(" ".join(lines))
        length, n = length + len(paragraphs[-1].split()), n + 1
    return "\n\n".join(paragraphs) + "\n", facts


@dataclass(frozen=True)
class _Subject:
    """What paragraphs are about.

    Attributes:
        named: Draws a name and its pronoun.
        kinds: The kinds of facts.
        uniform: Those that a uniform document tells of everybody.
        about: Sentences without a fact.
    """

    named: Callable[[Fiction], tuple[str, str]]
    kinds: tuple[str, ...]
    uniform: tuple[str, ...]
    about: tuple[str, ...]


_SUBJECTS = (
    _Subject(Fiction.person, _OF_PEOPLE, ("home", "phone", "job", "pet", "country"), _ABOUT_PEOPLE),
    _Subject(lambda fiction: (fiction.firm(), "it"), _OF_FIRMS, _OF_FIRMS, _ABOUT_FIRMS),
    _Subject(
        lambda fiction: (fiction.project(), "it"), _OF_PROJECTS, _OF_PROJECTS, _ABOUT_PROJECTS
    ),
)


def _left(rng: random.Random, subject: _Subject, facts: Sequence[Fact]) -> list[str]:
    """Three kinds of facts, as far as they have not been told too often."""
    told = Counter(fact.kind for fact in facts)
    left = [kind for kind in subject.kinds if told[kind] < (2 if kind in DIRECT else 1)]
    return rng.sample(left, min(3, len(left)))


def _told(
    fiction: Fiction, subject: _Subject, kinds: Sequence[str]
) -> tuple[list[Fact], list[str]]:
    """The facts of one subject, and the sentences that tell them, with two other sentences."""
    rng = fiction.rng
    name, pronoun = subject.named(fiction)
    facts, lines = list[Fact](), list[str]()
    for kind in rng.sample(kinds, len(kinds)):
        value = _value(fiction, kind)
        if value:  # of some kinds there are few
            facts.append(Fact(kind, name, value))
            lines.append(rng.choice(KINDS[kind].sentences).format(n=name, v=value))
    for sentence in rng.sample(subject.about, 2) if facts else ():
        place = rng.randint(1, len(lines))  # not first, as a pronoun needs the name before it
        lines.insert(place, sentence.format(n=name, p=pronoun))
    return facts, lines


def _fillers(rng: random.Random) -> list[str]:
    """Sentences without a fact, no two alike."""
    pairs = rng.sample([(who, did) for who in _WHO for did in _DID], len(_WHO) * len(_DID))
    return [f"{who} {did} {rng.choice(_WHEN)}".rstrip() + "." for who, did in pairs]


def _value(fiction: Fiction, kind: str) -> str:
    """A value of the kind; ``""`` if none is left."""
    making = _MAKE.get(kind)
    return making(fiction) if making else fiction.word(kind)


# The ranges of figures do not meet, so that no figure is found within another: 412 in 412,000.
_MAKE: dict[str, Callable[[Fiction], str]] = {
    "home": Fiction.town,
    "childhood": Fiction.town,
    "site": Fiction.town,
    "phone": lambda fiction: str(fiction.figure(2000, 9999)),
    "founded": lambda fiction: str(fiction.figure(1850, 1990)),
    "staff": lambda fiction: str(fiction.figure(41, 399)),
    "budget": lambda fiction: f"{fiction.figure(400, 990)},000",
    "leader": lambda fiction: fiction.person()[0],
    "end": Fiction.date,
}
