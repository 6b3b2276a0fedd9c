"""The protocol of pushing and collecting garbage, as a small model that is explored exhaustively.

A state is what the store holds, what its root says, what each client knows, and which requests are
still on their way: a deletion, or an upload that its sender has repeated, may take effect much
later. From each state every step of every client follows, dying among them, until nothing new is
found. In every state

- what the root lists is stored,
- the content of a push that was acknowledged is listed.

Each rule can be left out: then the exploration finds the way into disaster. So the model can fail,
and the rule is needed. What the rules are called in the code is said beside them.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from depth import deep

Pack = tuple[int, int]
"""Whose content it holds, and a number that tells it from others with the same content."""
Packs = frozenset[Pack]
NONE: Packs = frozenset()
TABLE = 1000
"""Added to the number of a table's maker: a table is listed, condemned and deleted as a pack is."""


def tables(listed: Packs) -> Packs:
    return frozenset(each for each in listed if each[0] >= TABLE)


class Rules(NamedTuple):
    """What clients heed."""

    swaps: bool = True
    """A root is replaced only by who has read it (`Remote.swap`)."""
    uploads_first: bool = True
    """A pack is durable before a root lists it (`push.send`)."""
    condemns_first: bool = True
    """A pack is deleted after the swap that condemns it (`gc.apply`)."""
    verifies: bool = True
    """After a crash, or if ``gc_epoch`` has moved, a pusher looks whether its pack is still there
    (`Journal.take`)."""
    heeds_condemned: bool = True
    """It lists nothing that is condemned, even if that is still there."""
    new_names: bool = True
    """What is sent again gets another name (`push.packs_of_objects`)."""
    tables_first: bool = True
    """A table is durable before a root lists it (`listing.follow`)."""
    new_tables: bool = True
    """No table is used for a second swap, not even one that was lost (`listing.follow`)."""
    two_epochs: bool = True
    """After two collections a pusher does not trust what it sees."""
    spares_own: bool = True
    """A collector that begins again does not condemn what it goes on to list (`gc._following`)."""
    confirms: bool = True
    """An entry of ``condemned`` stays until the pack was seen to be gone."""


class Root(NamedTuple):
    version: int = 0
    listed: Packs = NONE
    condemned: Packs = NONE
    gc_epoch: int = 0


class Pusher(NamedTuple):
    """Who pushes one content.

    Attributes:
        at: What comes next.
        seen: The root it knows.
        pack: What its journal holds, noted under ``under``.
        sure: Whether it has seen the pack arrive.
        made: How many packs it has made.
        lives: How often it may die.
        acknowledged: Whether its push has returned.
    """

    at: str = "read"
    seen: Root = Root()
    pack: Pack | None = None
    under: int = 0
    sure: bool = False
    made: int = 0
    lives: int = 1
    acknowledged: bool = False
    tries: int = 0
    """How many tables it has made."""


READS: Any = {"at": "read", "seen": Root()}
DONE = Pusher(at="end", acknowledged=True)
"""A step drops the values that no later step reads, so that fewer states differ."""


class Collector(NamedTuple):
    """Who condemns and deletes what no root lists, and what it has packed anew.

    Attributes:
        at: What comes next.
        runs: How often it begins.
        seen: The root it knows.
        there: What was stored when it looked.
        instead: A listed pack that it gives up, and the one with the same content.
        under: The ``gc_epoch`` when that was packed.
        doomed: What it deletes.
    """

    at: str = "read"
    runs: int = 1
    seen: Root = Root()
    there: Packs = NONE
    instead: tuple[Pack, Pack] | None = None
    under: int = 0
    doomed: Packs = NONE


class State(NamedTuple):
    root: Root = Root()
    stored: Packs = NONE
    late: frozenset[tuple[str, Pack]] = frozenset()
    pushers: tuple[Pusher, ...] = ()
    collectors: tuple[Collector, ...] = ()


Steps = Iterator[tuple[str, State]]


def steps(state: State, rules: Rules) -> Steps:
    """What may happen next."""
    for what, pack in state.late:
        stored = state.stored | {pack} if what == "upload" else state.stored - {pack}
        yield (
            f"late {what} of {pack}",
            state._replace(stored=stored, late=state.late - {(what, pack)}),
        )
    for n, pusher in enumerate(state.pushers):
        for what, after, changed in push(n, pusher, state, rules):
            pushers = (*state.pushers[:n], after, *state.pushers[n + 1 :])
            yield f"pusher {n}: {what}", changed._replace(pushers=pushers)
    for n, collector in enumerate(state.collectors):
        for what, done, changed in collect(n, collector, state, rules):
            collectors = (*state.collectors[:n], done, *state.collectors[n + 1 :])
            yield f"collector {n}: {what}", changed._replace(collectors=collectors)


def push(n: int, me: Pusher, state: State, rules: Rules) -> Iterator[tuple[str, Pusher, State]]:
    if me.lives and me.at != "end":
        yield "dies", me._replace(**READS, sure=False, lives=me.lives - 1), state
    if me.at == "read":
        seen = state.root
        if any(content == n for content, _ in seen.listed):
            yield "is up to date", DONE, state
        elif me.pack is None:
            yield "reads", me._replace(at="note", seen=seen), state
        elif (me.sure and me.under == seen.gc_epoch) or not rules.verifies:
            yield "reads", me._replace(at="table", seen=seen), state
        else:
            yield "reads", me._replace(at="look", seen=seen), state
    elif me.at == "look":
        moved = me.seen.gc_epoch - me.under
        good = me.pack in state.stored and (moved <= 1 or not rules.two_epochs)
        if good and (me.pack not in me.seen.condemned or not rules.heeds_condemned):
            yield "looks", me._replace(at="table", under=me.seen.gc_epoch, sure=True), state
        else:
            yield "gives its pack up", me._replace(at="note", pack=None), state
    elif me.at == "note":
        pack = (n, me.made if rules.new_names else 0)
        at = "upload" if rules.uploads_first else "table"
        noted = me._replace(at=at, pack=pack, under=me.seen.gc_epoch, made=me.made + 1)
        yield f"notes {pack}", noted, state
    elif me.at == "upload":
        assert me.pack
        done = me._replace(at="table" if rules.uploads_first else "answer", sure=True)
        sent = state._replace(stored=state.stored | {me.pack})
        yield "uploads", done, sent
        if not state.late:
            yield "uploads twice", done, sent._replace(late=frozenset({("upload", me.pack)}))
    elif me.at == "table":
        made = me._replace(at="swap", tries=me.tries + 1 if rules.new_tables else 1)
        stored = state.stored | {(TABLE + n, made.tries)} if rules.tables_first else state.stored
        yield "makes a table", made, state._replace(stored=stored)
    elif me.at == "swap":
        assert me.pack
        table = (TABLE + n, me.tries)
        if state.root.version == me.seen.version or not rules.swaps:
            stale = tables(me.seen.listed) - {table}
            listed = (me.seen.listed - stale) | {me.pack, table}
            condemned = me.seen.condemned | stale
            root = me.seen._replace(
                version=state.root.version + 1, listed=listed, condemned=condemned
            )
            at = "answer" if rules.uploads_first else "upload"
            yield "swaps", me._replace(at=at, seen=Root()), state._replace(root=root)
        else:
            # Nobody else ever lists this table, so it is gone at once.
            stored = state.stored - {table} if rules.new_tables else state.stored
            yield "loses", me._replace(**READS), state._replace(stored=stored)
    elif me.at == "answer":
        yield "is told", DONE, state


def collect(
    n: int, me: Collector, state: State, rules: Rules
) -> Iterator[tuple[str, Collector, State]]:
    again = Collector(runs=me.runs - 1)
    if me.at == "read" and me.runs:
        yield "reads", me._replace(at="list", seen=state.root), state
    elif me.at == "list":
        found = me._replace(at="swap", there=state.stored)
        if not rules.condemns_first:
            found = found._replace(at="delete", doomed=state.stored - me.seen.listed)
        yield "lists", found._replace(instead=None), state
        if me.instead and me.instead[0] in me.seen.listed and me.under == me.seen.gc_epoch:
            yield "goes on", found, state
        for old in me.seen.listed - tables(me.seen.listed):
            new = (old[0], 100 + 10 * n + me.runs)
            changed = state._replace(stored=state.stored | {new})
            yield (
                f"packs {old} anew",
                found._replace(instead=(old, new), under=me.seen.gc_epoch),
                changed,
            )
    elif me.at == "swap":
        strays = me.there - me.seen.listed - me.seen.condemned
        kept = me.seen.condemned & me.there if rules.confirms else NONE
        old, new = ({each} for each in me.instead) if me.instead else (NONE, NONE)
        if rules.spares_own:
            strays -= new
        table = {(TABLE + 100 + n, me.runs)} if new else NONE
        if new:
            old = old | tables(me.seen.listed)
        condemned = kept | strays | old
        if state.root.version != me.seen.version and rules.swaps:
            yield "loses", again._replace(instead=me.instead, under=me.under), state
        else:
            root = Root(
                state.root.version + 1,
                (me.seen.listed - old) | new | table,
                condemned,
                me.seen.gc_epoch + 1,
            )
            doomed = (me.seen.condemned & me.there) | strays | old
            at = "delete" if rules.condemns_first else "end"
            swapped = Collector(at, me.runs, doomed=doomed) if at == "delete" else again
            # Its table is uploaded before, as a pusher's is; that nobody else is told of it.
            yield "swaps", swapped, state._replace(root=root, stored=state.stored | table)
    elif me.at == "delete":
        then = again if rules.condemns_first else me._replace(at="swap")
        yield "dies", again, state
        yield "deletes", then, state._replace(stored=state.stored - me.doomed)
        # The name of a table never returns: it does not matter when it is deleted.
        slow = me.doomed - tables(me.doomed) if rules.new_tables else me.doomed
        late = state.late | {("deletion", each) for each in slow}
        stored = state.stored - (me.doomed - slow)
        yield (
            "deletes, but that takes its time",
            then,
            state._replace(late=late, stored=stored),
        )


def disaster(state: State) -> str:
    """What must never be; empty if all is well."""
    if missing := state.root.listed - state.stored:
        return f"listed and not there: {sorted(missing)}"
    if len(tables(state.root.listed)) != bool(state.root.listed):
        return "packs without a table, or two tables"
    contents = {content for content, _ in state.root.listed}
    lost = [n for n, each in enumerate(state.pushers) if each.acknowledged and n not in contents]
    return f"acknowledged and not listed: {lost}" if lost else ""


class Explored(NamedTuple):
    states: int
    ends: int
    """States in which everybody is done and everything was pushed."""
    story: list[str]
    """How to get into disaster; empty if there is no way."""


def explore(start: State, rules: Rules = Rules()) -> Explored:  # noqa: B008
    before: dict[State, tuple[State, str] | None] = {start: None}
    pending = deque([start])
    ends = 0
    while pending:
        state = pending.popleft()
        if found := disaster(state):
            story = [found]
            while came := before[state]:
                state, what = came
                story.append(what)
            return Explored(len(before), ends, story[::-1])
        ends += all(each.acknowledged for each in state.pushers)
        for what, following in steps(state, rules):
            if following not in before:
                before[following] = (state, what)
                pending.append(following)
    return Explored(len(before), ends, [])


def meeting(pushers: int, *runs: int, lives: int = 1) -> State:
    """So many pushers, and collectors that begin so many times."""
    return State(
        pushers=(Pusher(lives=lives),) * pushers,
        collectors=tuple(Collector(runs=each) for each in runs),
    )


@pytest.fixture(autouse=True)
def _uncollected() -> Iterator[None]:
    """Python looks for cycles among millions of states, and there are none."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "start",
    [meeting(1, 2), *deep(meeting(1, 1, 1)), meeting(2, 1, lives=0)],
    ids=["a collector twice", "two collectors", "two pushers"],
)
def test_nothing_listed_is_ever_missing_and_nothing_acknowledged_is_lost(start: State) -> None:
    found = explore(start)
    assert found.story == []
    assert found.ends


@pytest.mark.deep
@pytest.mark.parametrize("start", [meeting(2, 1), meeting(1, 2, 1), meeting(2, 2, lives=0)])
def test_nor_among_more(start: State) -> None:
    found = explore(start)
    assert found.story == []
    assert found.ends


@pytest.mark.parametrize(
    "left_out",
    [
        *("swaps", "uploads_first", "condemns_first", "verifies", "heeds_condemned", "new_names"),
        *("spares_own", "tables_first", "new_tables"),
        # Each of these two stands in for the other, but for an upload that is very late.
        "two_epochs confirms",
        pytest.param("two_epochs", marks=pytest.mark.deep),
    ],
)
def test_without_a_rule_there_is_a_way_into_disaster(left_out: str) -> None:
    rules = Rules()._replace(**dict.fromkeys(left_out.split(), False))
    starts = {"two_epochs": meeting(1, 2, 1), "spares_own": meeting(2, 2, lives=0)}
    start = starts.get(left_out, meeting(1, 1, 1))
    assert explore(start, rules).story
