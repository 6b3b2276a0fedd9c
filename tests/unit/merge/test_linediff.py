"""Lines that two versions share."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dorky.merge.linediff import Hunk, hunks, split

texts = st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"", b"\r"]), max_size=12).map(b"\n".join)


@settings(max_examples=100, deadline=None)
@given(texts, texts)
def test_hunks_make_one_version_of_the_other(one: bytes, other: bytes) -> None:
    old, new = split(one), split(other)
    assert b"".join(old) == one
    assert all(line.endswith(b"\n") for line in old[:-1])
    made, done, new_done = [], 0, 0
    for hunk in hunks(old, new):
        assert hunk.low < hunk.high or hunk.new_low < hunk.new_high
        # Before it is what both have, and at least a line of it after another hunk.
        assert old[done : hunk.low] == new[new_done : hunk.new_low]
        assert hunk.low > done or not made
        made += [*old[done : hunk.low], *new[hunk.new_low : hunk.new_high]]
        done, new_done = hunk.high, hunk.new_high
    assert [*made, *old[done:]] == new


def test_only_what_differs_is_in_a_hunk() -> None:
    old = split(b"{\n1\n}\n{\n2\n}\n{\n3\n}\n")
    new = split(b"{\n1\n}\n{\nX\n}\n{\n3\n}\n4")
    assert list(hunks(old, new)) == [Hunk(4, 5, 4, 5), Hunk(9, 9, 9, 10)]
    assert list(hunks(old, old)) == []
    # None of the lines stands once.
    assert list(hunks([b"a", b"b"] * 9, [b"a", b"b"] * 5 + [b"b"] + [b"a", b"b"] * 4)) == [
        Hunk(10, 10, 10, 11)
    ]


def test_large_versions_come_to_an_end() -> None:
    many = 20_000
    # Every second line differs; the same few lines all over; everything turned around.
    one, other = (
        [line for i in range(many) for line in (b"%d" % i, b"%s%d" % (who, i))]
        for who in (b"a", b"b")
    )
    assert len(list(hunks(one, other))) == many
    pair, turned = [b"{", b"}"] * many, [b"}", b"{"] * many
    assert list(hunks(pair, turned)) == [Hunk(0, 2 * many, 0, 2 * many)]
    assert list(hunks(one, one[::-1]))
