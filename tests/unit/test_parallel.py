"""Work in threads: in order, in bounded memory, and over when it is over."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorky.parallel import BackgroundWorker, in_order


@given(items=st.lists(st.integers(), max_size=50), threads=st.integers(1, 4), data=st.data())
def test_results_come_in_order(items: list[int], threads: int, data: st.DataObject) -> None:
    ahead = data.draw(st.none() | st.integers(1, 10))
    found = in_order(lambda n: n * 2, items, threads=threads, ahead=ahead)
    assert list(found) == [n * 2 for n in items]


def test_the_first_waits_for_no_other() -> None:
    """A slow first item holds back the results, not the work on the others."""
    others = threading.Barrier(4)

    def work(n: int) -> int:
        others.wait(timeout=10)  # all four must be under way at once
        return n

    assert list(in_order(work, range(4), threads=4)) == [0, 1, 2, 3]


def test_no_more_is_drawn_than_was_asked_for() -> None:
    drawn = []

    def items() -> Iterator[int]:
        for n in range(100):
            drawn.append(n)
            yield n

    taken = in_order(lambda n: n, items(), threads=2, ahead=3)
    assert drawn == []
    for n in range(10):
        assert next(taken) == n
        # Those taken, those under way, and the one that waits for room.
        assert len(drawn) <= n + 1 + 3 + 1
    taken.close()  # type: ignore[attr-defined]
    assert len(drawn) <= 14


def test_items_are_drawn_in_the_callers_thread() -> None:
    def items() -> Iterator[int]:
        for _ in range(10):
            yield threading.get_ident()

    assert set(in_order(lambda n: n, items(), threads=3)) == {threading.get_ident()}


def test_an_error_comes_in_its_turn_and_ends_it() -> None:
    ran = []

    def work(n: int) -> int:
        ran.append(n)
        if n == 3:
            raise ZeroDivisionError
        return n

    taken = in_order(work, range(1000), threads=2, ahead=4)
    assert [next(taken) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        next(taken)
    assert len(ran) < 20
    assert list(taken) == []


def test_an_error_of_the_source_ends_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda n: n, items(), threads=2))


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    taken = in_order(lambda n: n, range(100), threads=4)
    next(taken)
    taken.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert list(in_order(lambda n: n, [], threads=4)) == []
    assert threading.active_count() == before


def test_an_interrupt_waits_for_nobody() -> None:
    """Whoever presses Ctrl-C is not kept until a slow upload ends."""
    begun, release = threading.Event(), threading.Event()

    def work(n: int) -> int:
        begun.set()
        release.wait(timeout=10)
        return n

    def items() -> Iterator[int]:
        yield 1
        begun.wait(timeout=10)
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            list(in_order(work, items(), threads=1))
        assert not release.is_set()
    finally:
        release.set()


# --- a lane ---------------------------------------------------------------------------------


def nothing() -> None:
    pass


def test_what_is_alone_takes_no_thread() -> None:
    here = threading.get_ident()
    assert list(in_order(lambda _: threading.get_ident(), [1], threads=3)) == [here]
    lane, done = BackgroundWorker(), []
    lane.finish(lambda: done.append(threading.get_ident()))
    assert done == [here]
    lane.close()


def test_a_lane_does_one_thing_after_the_other_beside_its_owner() -> None:
    lane, done = BackgroundWorker(), []
    for n in range(20):
        lane.do(lambda n: done.append((n, threading.get_ident())), n)
    lane.finish(nothing)
    assert [n for n, _ in done] == list(range(20))
    assert len({thread for _, thread in done} - {threading.get_ident()}) == 1
    lane.close()


def test_who_is_faster_than_a_lane_waits() -> None:
    lane, go, begun = BackgroundWorker(), threading.Event(), []

    def work() -> None:
        go.wait(timeout=10)

    def owner() -> None:
        for n in range(10):
            lane.do(work)
            begun.append(n)

    thread = threading.Thread(target=owner)
    thread.start()
    thread.join(timeout=0.2)
    assert len(begun) < 5
    go.set()
    thread.join()
    lane.finish(nothing)
    assert len(begun) == 10
    lane.close()


def do_all(lane: BackgroundWorker, work: Callable[[int], object], items: Iterable[int]) -> None:
    for each in items:
        lane.do(work, each)
    lane.finish(nothing)


@pytest.mark.parametrize("begin", [lambda lane: lane.do, lambda lane: lane.finish])
def test_nothing_is_done_after_what_failed(begin: Callable[[BackgroundWorker], Any]) -> None:
    lane, done = BackgroundWorker(), []

    def fail() -> None:
        raise OSError("full")

    with contextlib.suppress(OSError):
        begin(lane)(fail)
    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            do_all(lane, done.append, range(10))
    assert done == []
    lane.close()
