"""The server's rounds as a function of values.

Cases by hand, rules that any round keeps, and a simulated server that counts its own cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub
Phase = _oracle.Phase
UNDER_WAY = (Phase.READS, Phase.ANSWERS)
SECONDS_OF_READING = 4.0  # a round; one of answers takes a second
FIELDS: dict[str, Any] = {"completes": True, "n_ctx": 1 << 20, "n_answer_max": 50}


def slot(number: int, phase: Any, **fields: Any) -> Any:
    view = _oracle.SlotView()
    own = {"id": number, "phase": phase, "task": number, "n_cells": fields.get("n_held", 0)}
    for name, value in {**FIELDS, **own, **fields}.items():
        setattr(view, name, value)
    return view


def plan(slots: list[Any], n_free: int, *, turn: bool = True, **cache_fields: Any) -> Any:
    cache = _oracle.CacheView()
    for name, value in {"shared": True, "n_cells": 1000, "n_free": n_free, **cache_fields}.items():
        setattr(cache, name, value)
    return _oracle.plan_round(slots, cache, turn)


def idle(number: int, n_held: int, last_used: int) -> Any:
    return slot(number, Phase.IDLE, task=-1, completes=False, n_held=n_held, last_used=last_used)


def answering(number: int, n_left: int, **fields: Any) -> Any:
    return slot(number, Phase.ANSWERS, n_held=100, n_prompt=100, n_answer_max=n_left, **fields)


# Cases by hand: a cache of 1000 cells


def test_an_empty_server_has_no_plan() -> None:
    done = plan([idle(0, 0, 0), idle(1, 0, 0)], 1000)
    assert (done.held, done.cleared, done.reader, done.alternates) == ([], [], -1, -1)


def test_a_prompt_waits_for_the_room_of_its_answer_next_to_those_under_way() -> None:
    """An answer that has 200 cells to come, and 800 are free: prompt and answer take 600 of them at
    most.
    """
    busy = answering(0, 200, task=7)
    others = [idle(2, 0, 0), idle(3, 0, 0)]
    for n_answer, held in ((100, []), (101, [1])):
        text = slot(1, Phase.STARTS, n_prompt=500, n_answer_max=n_answer)
        assert plan([busy, text, *others], 800).held == held


def test_an_answer_counts_with_an_even_share_of_the_cache_at_most() -> None:
    busy = answering(0, 900, task=7)  # 250 of 1000 cells with four slots
    text = slot(1, Phase.STARTS, n_prompt=500, n_answer_max=50)
    for n_free, held in ((800, []), (799, [1])):
        assert plan([busy, text, idle(2, 0, 0), idle(3, 0, 0)], n_free).held == held


def test_an_answer_without_a_limit_counts_with_64_cells() -> None:
    busy = answering(0, 900, task=7)
    busy.n_answer_max = None
    text = slot(1, Phase.STARTS, n_prompt=500, n_answer_max=50)
    for n_free, held in ((614, []), (613, [1])):
        assert plan([busy, text], n_free).held == held


def test_the_longest_unused_cells_are_freed_first_and_no_more_than_needed() -> None:
    text = slot(0, Phase.STARTS, n_prompt=500)
    resting = [idle(1, 200, 30), idle(2, 200, 10), idle(3, 200, 20)]
    done = plan([text, *resting], 400)
    assert done.cleared == [2]
    assert not done.held
    assert plan([text, *resting], 100).cleared == [2, 3]


def test_a_prompt_that_nobody_blocks_is_not_held_though_it_does_not_fit() -> None:
    """llama-server says then that the context is too small."""
    done = plan([slot(0, Phase.STARTS, n_prompt=900), idle(1, 100, 0)], 700)
    assert done.cleared == [1]
    assert not done.held


def test_a_prompt_longer_than_its_context_waits_for_nobody() -> None:
    busy = answering(0, 200)
    text = slot(1, Phase.STARTS, n_prompt=1200, n_ctx=1000)
    assert not plan([busy, text], 100).held


def test_an_observed_prompt_takes_turns_with_all_others() -> None:
    slots = [
        answering(0, 50),
        slot(1, Phase.READS, n_prompt=300, n_held=100, observed=True, ratio=0.2),
        slot(2, Phase.STARTS, n_prompt=300, observed=True, ratio=0.2),
    ]
    first = plan(slots, 800)
    second = plan(slots, 800, turn=False)
    assert (first.reader, sorted(first.held)) == (1, [0, 2])
    assert (second.reader, sorted(second.held)) == (-1, [1, 2])
    assert first.alternates == second.alternates == 1


def turns(n: int, balance: Any, task: int, reading: float, answering: float) -> str:
    """Whose rounds follow each other: r the reader's, a those of answers."""
    said = ""
    for _ in range(n):
        reads = balance.is_readers()
        said += "r" if reads else "a"
        balance.took(task, reads, reading if reads else answering)
    return said


def test_answers_get_as_much_time_as_the_prompt_that_is_read() -> None:
    assert turns(10, _oracle.TurnBalance(), 5, 4.0, 1.0) == "raaaaraaaa"
    assert turns(6, _oracle.TurnBalance(), 5, 1.0, 4.0) == "rarara"


def test_answers_have_so_many_rounds_of_a_prompt_and_then_every_other_one() -> None:
    balance = _oracle.TurnBalance()
    n = balance.most_rounds
    assert turns(n + 5, balance, 5, 1000.0, 1.0) == "r" + "a" * n + "rara"
    # the next prompt begins anew
    balance.took(6, True, 2.0)
    assert turns(4, balance, 6, 2.0, 1.0) == "aara"


def test_an_observed_prompt_alone_has_every_round() -> None:
    done = plan([slot(0, Phase.STARTS, n_prompt=300, observed=True), idle(1, 0, 0)], 1000)
    assert (done.reader, done.held, done.alternates) == (0, [], -1)


def test_an_image_goes_with_others_and_other_images_wait() -> None:
    slots = [answering(0, 50)]
    slots += [slot(i, Phase.STARTS, n_prompt=100, has_images=True) for i in (2, 1)]
    assert plan(slots, 900).held == [2]


def test_slots_with_caches_of_their_own_wait_for_no_room() -> None:
    slots = [answering(0, 50), slot(1, Phase.STARTS, n_prompt=900)]
    done = plan(slots, 0, shared=False)
    assert (done.held, done.cleared) == ([], [])


def test_a_draft_model_needs_room_for_every_token() -> None:
    """With a ratio of 0.1, 500 cells become 50; the draft model keeps 500."""
    prompt = slot(0, Phase.STARTS, n_prompt=500, observed=True, ratio=0.1, n_answer_max=100)
    slots = [prompt, answering(1, 200)]
    assert 0 not in plan(slots, 700).held
    assert 0 in plan(slots, 700, n_free_draft=700).held
    assert 0 not in plan(slots, 800, n_free_draft=800).held


def test_no_prompt_that_came_later_takes_the_room_that_another_waits_for() -> None:
    """Slots are not in order of arrival."""
    early, late = (slot(i, Phase.STARTS, n_prompt=n, task=10 - i) for i, n in ((2, 350), (1, 350)))
    done = plan([answering(0, 50), late, early], 500)
    assert done.held == [1]
    early.n_prompt = 600
    assert sorted(plan([answering(0, 50), late, early], 500).held) == [1, 2]


def test_a_prompt_read_in_part_keeps_its_cells_while_it_sits_out() -> None:
    """Its turn is over, and the answers have no free cells."""
    reader = slot(1, Phase.READS, n_prompt=600, n_held=400, observed=True)
    done = plan([answering(0, 50), reader], 8, turn=False)
    assert done.held == [1]
    assert not done.cleared


def test_answers_of_children_have_room_while_their_prompt_is_read() -> None:
    """100 + 50 + 50 + 50 cells to come, and 400 are free: 150 are left, but not 151."""
    family = [slot(0, Phase.READS, n_prompt=200, n_held=100)]
    family += [slot(i, Phase.WAITS_FOR_PARENT, parent=0, n_prompt=200) for i in (1, 2)]
    for n_answer, held in ((50, []), (51, [3])):
        text = slot(3, Phase.STARTS, n_prompt=100, n_answer_max=n_answer)
        assert plan([*family, text], 400).held == held


def test_cells_that_a_busy_slot_shares_count_as_taken() -> None:
    """Clearing the idle slot of 300 cells frees 20."""
    parent, child = idle(0, 300, 0), answering(1, 100)
    parent.n_cells = 20
    for n_free, held in ((630, []), (629, [2])):
        text = slot(2, Phase.STARTS, n_prompt=500)
        assert plan([parent, child, text], n_free).held == held


def test_what_a_child_has_of_an_earlier_request_is_freed_for_answers() -> None:
    """llama-server frees cells of idle slots only."""
    slots = [
        slot(0, Phase.READS, n_prompt=200, n_held=100),
        slot(1, Phase.WAITS_FOR_PARENT, parent=0, n_prompt=200, n_held=30),
        answering(2, 50),
    ]
    assert plan(slots, 15).cleared == [1]
    assert not plan(slots, 16).cleared


# Rules for any slots


@st.composite
def any_slot(draw: st.DrawFn, number: int) -> Any:
    phase = draw(st.sampled_from(list(Phase.__members__.values())))
    n_prompt = draw(st.integers(1, 500))
    n_held = draw(st.integers(1 if phase in UNDER_WAY else 0, n_prompt))
    completes = phase == Phase.WAITS_FOR_PARENT or draw(st.booleans())
    return slot(
        number,
        phase,
        task=draw(st.integers(0, 4)) * 16 + number,
        parent=draw(st.integers(0, 80)) if phase == Phase.WAITS_FOR_PARENT else -1,
        completes=completes,
        observed=completes and draw(st.booleans()),
        has_images=completes and draw(st.booleans()),
        n_prompt=n_prompt,
        n_held=n_held,
        n_cells=draw(st.integers(0, n_held)),
        n_answer_max=draw(st.none() | st.integers(0, 400)),
        n_answered=draw(st.integers(0, 50)) if phase == Phase.ANSWERS else 0,
        ratio=draw(st.sampled_from([0.1, 0.5, 1.0])),
        last_used=draw(st.integers(0, 5)),
    )


@st.composite
def any_slots(draw: st.DrawFn) -> list[Any]:
    return [draw(any_slot(i)) for i in range(draw(st.integers(1, 6)))]


def one_at_a_time(view: Any) -> bool:
    begun = view.phase in (Phase.STARTS, Phase.READS)
    return begun and view.completes and (view.observed or view.has_images)


def check(slots: list[Any], done: Any) -> None:
    """What holds in any round."""
    by_id = {view.id: view for view in slots}
    held = [by_id[i] for i in done.held]
    assert len(set(done.held)) == len(done.held)
    assert len(set(done.cleared)) == len(done.cleared)
    assert all(view.phase in (Phase.STARTS, *UNDER_WAY) for view in held)
    assert all(by_id[i].phase not in UNDER_WAY for i in done.cleared), "no busy slot loses cells"
    assert all(by_id[i].n_held > 0 for i in done.cleared)
    reading = [view for view in slots if one_at_a_time(view) and view not in held]
    assert len(reading) <= 1
    assert [view.id for view in reading if view.observed] == [done.reader] * (done.reader >= 0)
    going = [
        view for view in slots if view.phase in (Phase.STARTS, *UNDER_WAY) and view not in held
    ]
    if done.reader >= 0:
        assert [view.id for view in going] == [done.reader]
    else:
        assert not [view for view in held if view.phase == Phase.ANSWERS]
        assert not [view for view in held if view.phase == Phase.READS and not one_at_a_time(view)]
        starting = [view.task for view in going if view.phase == Phase.STARTS]
        waiting = [
            view.task for view in held if view.phase == Phase.STARTS and not one_at_a_time(view)
        ]
        assert max(starting, default=-1) < min(waiting, default=1 << 30), "in order of arrival"


@settings(derandomize=True, max_examples=200, deadline=None)
@given(any_slots(), st.integers(0, 1000), st.booleans(), st.booleans(), st.none() | st.just(400))
def test_any_round_keeps_the_rules(
    slots: list[Any], n_free: int, turn: bool, shared: bool, n_free_draft: int | None
) -> None:
    done = plan(slots, n_free, turn=turn, shared=shared, n_free_draft=n_free_draft)
    check(slots, done)
    assert shared or not done.cleared


@settings(derandomize=True, max_examples=100, deadline=None)
@given(any_slots(), st.booleans())
def test_nobody_waits_for_room_where_there_is_enough_for_everyone(
    slots: list[Any], turn: bool
) -> None:
    done = plan(slots, 10_000, turn=turn)
    check(slots, done)
    assert not done.cleared
    if done.reader < 0:
        assert all(one_at_a_time(view) for view in slots if view.id in done.held)


# A simulated server: it has cells, and llama-server's rules for them


@dataclass
class Request:
    n_prompt: int
    n_answer: int
    observed: bool
    has_images: bool
    n_children: int
    reuses: bool
    at: int  # round in which it arrives
    task: int = -1


@dataclass
class Seat:
    """A slot and its request."""

    number: int
    phase: Any = Phase.IDLE
    request: Request | None = None
    parent: int = -1
    task: int = -1
    n_held: int = 0
    n_answered: int = 0
    last_used: int = -1


@dataclass
class Simulation:
    n_cells: int
    n_slots: int
    n_batch: int
    ratio: float
    queue: list[Request]
    seats: list[Seat] = field(default_factory=list)
    cells: list[tuple[set[int], int]] = field(default_factory=list)  # owners, number
    balance: Any = field(default_factory=_oracle.TurnBalance)
    n_tasks: int = 0
    now: int = 0
    n_reader_rounds: int = 0

    def run(self) -> None:
        self.seats = [Seat(i) for i in range(self.n_slots)]
        n_rounds = 50 + sum(
            2 * (request.n_prompt // self.n_batch + 2 + request.n_answer) + request.at
            for request in self.queue
        )
        while self.queue or any(seat.request for seat in self.seats):
            self.round()
            self.now += 1
            assert self.now < n_rounds, "somebody starves"

    def round(self) -> None:
        self.take_requests()
        views = [self.view(seat) for seat in self.seats]
        turn = self.balance.is_readers()
        done = plan(views, self.n_free, turn=turn, n_cells=self.n_cells)
        check(views, done)
        answers = any(seat.phase == Phase.ANSWERS for seat in self.seats)
        self.n_reader_rounds = self.n_reader_rounds + 1 if done.reader >= 0 and answers else 0
        assert self.n_reader_rounds <= 1, "answers go on after each round of a prompt"
        if done.alternates >= 0:
            read = done.reader >= 0
            self.balance.took(done.alternates, read, SECONDS_OF_READING if read else 1.0)
        for number in done.cleared:
            self.clear(self.seats[number])
        going = [seat for seat in self.seats if seat.number not in done.held]
        room = self.n_batch
        for seat in going:
            if seat.phase == Phase.ANSWERS:
                self.answer(seat)
        for seat in going:
            if seat.phase in (Phase.STARTS, Phase.READS) and room > 0:
                room -= self.read(seat, room)

    @property
    def n_free(self) -> int:
        return self.n_cells - sum(n for _, n in self.cells)

    def n_alone(self, seat: Seat) -> int:
        return sum(n for owners, n in self.cells if owners == {seat.number})

    def clear(self, seat: Seat) -> None:
        for owners, _ in self.cells:
            owners.discard(seat.number)
        self.cells = [(owners, n) for owners, n in self.cells if owners]
        seat.n_held = 0

    def add(self, seat: Seat, n: int) -> None:
        """As llama-server does: idle slots are cleared when cells run out."""
        for other in self.seats:
            if self.n_free < n and other.phase == Phase.IDLE and other.n_held:
                self.clear(other)
        assert self.n_free >= n, "the cells that were promised are not there"
        self.cells.append(({seat.number}, n))
        seat.n_held += n

    def take_requests(self) -> None:
        while self.queue and self.queue[0].at <= self.now:
            free = [seat for seat in self.seats if seat.phase == Phase.IDLE]
            request = self.queue[0]
            if len(free) < 1 + request.n_children:
                return
            self.queue.pop(0)
            request.task = self.n_tasks
            for i, seat in enumerate(free[: 1 + request.n_children]):
                seat.request, seat.task = request, self.n_tasks
                seat.phase = Phase.WAITS_FOR_PARENT if i else Phase.STARTS
                seat.parent = request.task if i else -1
                seat.n_answered = 0
                self.n_tasks += 1
            if not (request.reuses and free[0].n_held < request.n_prompt):
                self.clear(free[0])

    def view(self, seat: Seat) -> Any:
        request = seat.request
        fields: dict[str, Any] = {"completes": False}
        if request:
            fields = {
                "n_prompt": request.n_prompt,
                "n_answer_max": request.n_answer,
                "observed": request.observed,
                "has_images": request.has_images,
            }
        return slot(
            seat.number,
            seat.phase,
            task=seat.task if request else -1,
            parent=seat.parent,
            n_held=seat.n_held,
            n_cells=self.n_alone(seat),
            n_answered=seat.n_answered,
            last_used=seat.last_used,
            ratio=self.ratio,
            **fields,
        )

    def read(self, seat: Seat, room: int) -> int:
        request = seat.request
        assert request
        n = min(room, request.n_prompt - seat.n_held)
        seat.phase = Phase.READS
        self.add(seat, n)
        if seat.n_held == request.n_prompt:
            self.finish_prompt(seat, request)
        return n

    def finish_prompt(self, seat: Seat, request: Request) -> None:
        if request.observed:
            n = self.n_alone(seat)
            self.cells = [(owners, k) for owners, k in self.cells if owners != {seat.number}]
            self.cells.append(({seat.number}, max(1, int(n * self.ratio))))
        seat.phase = Phase.ANSWERS
        for child in self.seats:
            if child.phase == Phase.WAITS_FOR_PARENT and child.parent == request.task:
                self.clear(child)
                for owners, _ in self.cells:
                    if seat.number in owners:
                        owners.add(child.number)
                child.n_held, child.phase = seat.n_held, Phase.ANSWERS

    def answer(self, seat: Seat) -> None:
        assert seat.request
        if seat.n_answered < seat.request.n_answer:
            self.add(seat, 1)
            seat.n_answered += 1
            return
        seat.phase, seat.request, seat.last_used = Phase.IDLE, None, self.now
        if seat.parent >= 0:
            self.clear(seat)
        seat.parent = -1


@st.composite
def requests(draw: st.DrawFn, n_cells: int, n_slots: int) -> list[Request]:
    """Each fits by itself, with answers that take an even share of the cache at most."""
    out: list[Request] = []
    for _ in range(draw(st.integers(1, 12))):
        n_children = draw(st.integers(0, n_slots - 1)) if draw(st.integers(0, 4)) == 0 else 0
        n_answer = draw(st.integers(0, (n_cells - 2) // n_slots))
        out.append(
            Request(
                n_prompt=draw(st.integers(1, n_cells - (1 + n_children) * n_answer - 1)),
                n_answer=n_answer,
                observed=draw(st.booleans()),
                has_images=draw(st.booleans()),
                n_children=n_children,
                reuses=draw(st.booleans()),
                at=draw(st.integers(0, 30)) + (out[-1].at if out else 0),
            )
        )
    return out


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 5), st.sampled_from([64, 256, 1000]))
def test_everyone_is_served_and_finds_the_cells_that_were_promised(
    data: st.DataObject, n_slots: int, n_batch: int
) -> None:
    n_cells = 1000
    queue = data.draw(requests(n_cells, n_slots))
    ratio = data.draw(st.sampled_from([0.1, 0.5, 1.0]))
    Simulation(n_cells, n_slots, n_batch, ratio, queue).run()
