"""Slots are granted in the order in which they were asked for, and never more than there are. No thread, no clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgcopydb.bootstrap.budget import Slots, Ticket
from pgcopydb.runtime.errors import Stopped
from pgcopydb.runtime.stop import Stop, StopMode


def test_a_pool_that_comes_late_has_its_share_before_the_first_one_has_a_second_turn() -> None:
    slots = Slots(4)
    early = [slots.ask() for _ in range(4)]
    late = [slots.ask() for _ in range(4)]
    assert all(ticket.granted for ticket in early)
    assert not any(ticket.granted for ticket in late)
    for number, ticket in enumerate(early):
        slots.give_back(ticket)
        # What a worker does that has more to do.
        again = slots.ask()
        assert late[number].granted
        assert not again.granted


def test_two_pools_take_turns() -> None:
    slots = Slots(1)
    order = []
    line = [("one", slots.ask()), ("two", slots.ask())]
    for _ in range(6):
        pool, ticket = line.pop(0)
        assert ticket.granted
        order.append(pool)
        slots.give_back(ticket)
        line.append((pool, slots.ask()))
    assert order == ["one", "two"] * 3


def test_one_who_asks_for_all_is_not_passed_by() -> None:
    slots = Slots(3)
    first, second = slots.ask(), slots.ask()
    everything = slots.ask(3)
    behind = slots.ask()
    granted = []
    for ticket in (first, second, everything):
        slots.give_back(ticket)
        granted.append((everything.granted, behind.granted))
    assert granted == [(False, False), (True, False), (True, True)]


def test_one_who_leaves_the_line_holds_up_nobody() -> None:
    slots = Slots(2)
    first = slots.ask()
    everything = slots.ask(2)
    behind = slots.ask()
    slots.give_back(everything)
    assert behind.granted
    slots.give_back(first)
    slots.give_back(behind)
    assert slots.ask(2).granted


def test_more_than_there_are_is_all_there_are() -> None:
    assert Slots(2).ask(8).granted


@given(st.integers(1, 5), st.lists(st.tuples(st.booleans(), st.integers(1, 5)), max_size=60))
def test_never_more_than_there_are_and_always_in_order(total: int, acts: list[tuple[bool, int]]) -> None:
    slots = Slots(total)
    line: list[Ticket] = []
    for asks, number in acts:
        if asks:
            line.append(slots.ask(number))
        elif line:
            slots.give_back(line.pop(number % len(line)))
        granted = [ticket.granted for ticket in line]
        assert sum(ticket.count for ticket in line if ticket.granted) <= total
        assert granted == sorted(granted, reverse=True)
        if not all(granted):
            free = total - sum(ticket.count for ticket in line if ticket.granted)
            assert line[granted.index(False)].count > free, "who is first in line waits for slots that are free"


@pytest.mark.parametrize("mode", [StopMode.GRACEFUL, StopMode.FAST])
def test_a_stop_ends_the_wait_and_takes_nothing(mode: StopMode) -> None:
    slots = Slots(1)
    held = slots.ask()
    stop = Stop()
    stop.request(mode)
    with pytest.raises(Stopped), slots.taken(stop):
        pytest.fail("nothing was free")
    slots.give_back(held)
    assert slots.ask().granted


def test_what_a_job_has_taken_is_given_back_when_it_fails() -> None:
    slots = Slots(1)
    with pytest.raises(ZeroDivisionError), slots.taken(Stop()):
        raise ZeroDivisionError
    assert slots.ask().granted
