"""The plan of reading a prompt under a cap, in numbers of cells, against rules for any plan."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

Part = tuple[int, bool, bool, bool]  # cells, text, evictable, whole


def images(n: int, n_cells: int = 64, n_text: int = 5, *, whole: bool = False) -> list[Part]:
    parts: list[Part] = [(3, True, False, False)]
    for _ in range(n):
        parts += [(n_text, True, False, False), (n_cells, False, True, whole)]
    return [*parts, (20, True, False, False)]


class Reader:
    """A model of a cache with one head, of whose runs of cells the first ones stay."""

    def __init__(self, parts: list[Part], cap: int, **options: int) -> None:
        self.cap = cap
        self.plan = _oracle.PromptCap(parts, cap, **options)
        self.part_of = [i for i, part in enumerate(parts) for _ in range(part[0])]
        self.held: list[int] = []
        self.n_read = 0
        self.most = 0

    def room(self, n: int) -> None:
        runs = self.plan.room_for(n)
        assert [run[0] for run in runs] == sorted(run[0] for run in runs)
        for first, count, n_keep in reversed(runs):
            assert len({self.part_of[token] for token in self.held[first : first + count]}) == 1, (
                "a run is of one part"
            )
            assert 1 <= n_keep < count
            self.held[first + n_keep : first + count] = []
        assert len(self.held) + n <= self.cap

    def step(self) -> bool:
        n = self.plan.n_next
        if n == 0:
            return False
        self.room(n)
        self.held += range(self.n_read, self.n_read + n)
        self.n_read += n
        self.plan.add(n)
        self.most = max(self.most, len(self.held))
        assert self.plan.n_held == len(self.held)
        return True

    def read(self) -> None:
        while self.step():
            pass
        self.room(self.plan.n_answer)

    def count(self, part: int) -> int:
        return sum(self.part_of[token] == part for token in self.held)


def test_a_prompt_that_fits_is_left_alone() -> None:
    parts = images(3)
    reader = Reader(parts, 1000)
    reader.read()
    assert len(reader.held) == reader.most == sum(part[0] for part in parts)


def test_old_images_first_text_never_where_images_are_enough() -> None:
    parts = images(8)  # 512 cells of images, 63 of text
    reader = Reader(parts, 288)
    shrunk: list[int] = []
    while reader.step():
        now = [
            i
            for i, part in enumerate(parts)
            if part[2] and reader.count(i) < min(part[0], reader.n_read)
        ]
        shrunk += [
            i for i in now if i not in shrunk and all(reader.count(i) < parts[i][0] for _ in (0,))
        ]
    reader.read()
    counts = [reader.count(i) for i in range(len(parts))]
    assert all(counts[i] == part[0] for i, part in enumerate(parts) if part[1]), "all text is there"
    of_images = [counts[i] for i, part in enumerate(parts) if part[2]]
    assert of_images == sorted(of_images), "later images keep no less"
    # 288 - 72 read at a time - 36 last - 63 text = 117 cells for 512
    assert of_images[:4] == [int(64 * 117 / 512)] * 4
    assert sum(counts) > 288 - 72 - 36


def test_text_gives_way_when_images_are_at_their_floor() -> None:
    parts = images(8, n_text=20)  # 183 cells of text
    reader = Reader(parts, 160)
    reader.read()
    counts = [reader.count(i) for i in range(len(parts))]
    assert counts[2] == 64 // 32
    assert all(counts[i] >= part[0] // 4 for i, part in enumerate(parts) if part[1])
    assert counts[0] >= 1
    assert reader.held[:3] == [0, 1, 2], "the first cells stay"
    assert reader.held[-20:] == list(range(reader.n_read - 20, reader.n_read)), "and the last"


def test_an_image_that_must_be_read_at_once() -> None:
    reader = Reader(images(6, whole=True), 150)
    reader.read()
    assert 64 < reader.most <= 150
    with pytest.raises(
        ValueError,
        match="kv_cells: a prompt of 437 cells in 14 parts cannot be read through 70; exp",
    ):
        Reader(images(6, whole=True), 70)


def test_what_a_ratio_leaves_changes_no_floor_of_the_cap() -> None:
    """A ratio that allows more cells than the cap, just before the answer needs space."""
    reader = Reader(images(12), 256)
    while reader.step():
        pass
    assert reader.plan.leave(250) == []
    reader.room(reader.plan.n_answer)
    runs = reader.plan.leave(150)
    freed = sum(n - n_keep for _, n, n_keep in runs)
    assert len(reader.held) - freed == reader.plan.n_held
    assert reader.plan.n_held < len(reader.held)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 90), st.booleans(), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 400),
    st.integers(1, 128),
    st.integers(0, 40),
)
def test_any_plan_holds_the_cap_or_names_one_that_does(
    given_parts: list[tuple[int, bool, bool]], cap: int, n_batch: int, n_answer: int
) -> None:
    parts = [(n, text, not text, whole and not text) for n, text, whole in given_parts]
    try:
        reader = Reader(parts, cap, n_batch=n_batch, n_answer=n_answer)
    except ValueError as error:
        least = int(str(error).split("expected ")[1].split()[0])
        assert least > cap
        reader = Reader(parts, least, n_batch=n_batch, n_answer=n_answer)
    reader.read()
    assert reader.most <= reader.cap
    assert len(reader.held) + 1 <= reader.cap
    assert reader.held[0] == 0
    assert all(reader.count(i) > 0 for i in range(len(parts))), "nothing vanishes"
