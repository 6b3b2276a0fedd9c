"""Cancellation: what waits for somebody who has given up stops, and what must not stop does not."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from dorky import cancellation
from dorky.cancellation import Call, Cancelled, Turn
from dorky.parallel import in_order

SOON = 30
"""Far more seconds than anything here takes, unless it never ends."""


def ends(work: Callable[[], object]) -> BaseException | None:
    """Start work for a call, cancel the call, and return what the work raised."""
    call, raised = Call(), []
    begun = threading.Event()

    def run() -> None:
        with cancellation.scope(call):
            begun.set()
            try:
                work()
            except BaseException as error:  # noqa: BLE001
                raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert begun.wait(SOON)
    call.cancel()
    thread.join(SOON)
    assert not thread.is_alive()
    return raised[0] if raised else None


def held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


def hold(lock: threading.Lock) -> None:
    with cancellation.holding(lock):
        raise AssertionError("it was never released")


def queue(turn: Turn) -> None:
    with turn.taken():
        raise AssertionError("another thread had it")


def behind_another() -> None:
    turn = Turn()
    with turn.taken():
        context = contextvars.copy_context()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(context.run, queue, turn).result()


WAITING: dict[str, Callable[[], object]] = {
    "a pause": lambda: cancellation.sleep(3600),
    "a lock": lambda: hold(held()),
    "a turn": behind_another,
    "a server": lambda: cancellation.interruptible(lambda: threading.Event().wait(3600)),
    "threads": lambda: [*in_order(lambda _: cancellation.sleep(3600), range(4), threads=2)],
}


@pytest.mark.parametrize("what", WAITING)
def test_waiting_ends_when_nobody_waits_for_the_result(what: str) -> None:
    assert isinstance(ends(WAITING[what]), Cancelled)


def test_nothing_begins_for_a_cancelled_call() -> None:
    call, done = Call(), []
    call.cancel()
    with cancellation.scope(call):
        for work in (
            cancellation.check,
            lambda: cancellation.sleep(1),
            lambda: hold(threading.Lock()),
            lambda: queue(Turn()),
            lambda: cancellation.interruptible(lambda: done.append(1)),
        ):
            with pytest.raises(Cancelled):
                work()
    assert not done


def test_what_is_shielded_runs_to_its_end() -> None:
    call = Call()
    with cancellation.scope(call):
        with cancellation.shielded():
            assert call.shielded
            call.cancel()
            cancellation.check()
            assert cancellation.interruptible(lambda: 7) == 7
        assert not call.shielded
        with pytest.raises(Cancelled):
            cancellation.check()


def test_work_for_several_ends_when_all_have_given_up() -> None:
    one, other = Call(), Call()
    both = cancellation.together([one, other])
    assert both
    one.cancel()
    assert not both.cancelled
    other.cancel()
    assert both.cancelled
    assert cancellation.together([one, None]) is None
    assert cancellation.together([]) is None
    with cancellation.scope(both), cancellation.shielded():
        assert one.shielded
        assert other.shielded


def test_without_a_call_nothing_changes() -> None:
    assert cancellation.current() is None
    cancellation.check()
    cancellation.sleep(0)
    with cancellation.shielded(), cancellation.holding(threading.Lock()):
        assert cancellation.interruptible(threading.current_thread) is threading.current_thread()


def test_one_thread_at_a_time_has_a_turn() -> None:
    turn, begun = Turn(), threading.Barrier(8)
    inside: list[int] = []

    def work(n: int) -> None:
        begun.wait(SOON)
        for _ in range(20):
            with turn.taken() as mine:
                assert mine
                inside.append(n)
                assert inside == [n]
                inside.remove(n)

    with ThreadPoolExecutor(8) as pool:
        [*pool.map(work, range(8))]
    with pytest.raises(ZeroDivisionError), turn.taken():
        raise ZeroDivisionError
    with turn.taken() as mine:
        assert mine


def test_no_turn_is_taken_for_work_that_another_has_done() -> None:
    turn, asked = Turn(), threading.Event()
    done: list[int] = []

    def is_done() -> bool:
        asked.set()
        return bool(done)

    def wait() -> bool:
        with turn.taken(is_done) as mine:
            return mine

    with ThreadPoolExecutor(1) as pool, turn.taken():
        waiting = pool.submit(wait)
        assert asked.wait(SOON)
        done.append(1)
        with turn.taken(lambda: True) as mine:
            assert not mine
    assert waiting.result(SOON) is False


def test_an_error_of_the_work_is_raised() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with cancellation.scope(Call()), pytest.raises(ZeroDivisionError):
        cancellation.interruptible(fail)
