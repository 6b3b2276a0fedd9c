"""A `.env` file in which a value may go on where dorky can't see it is merged by lines, loudly."""

from __future__ import annotations

import pytest

from dorky.merge.threeway import combine

B64 = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2"


def merged(base: str, ours: str, theirs: str) -> tuple[str, tuple[str, ...]]:
    sides = (text.encode() for text in (base, ours, theirs))
    made = combine(".env", *sides, ours_label="o", theirs_label="t")
    assert made
    return made.data.decode(), made.conflicts


def test_backticks_are_one_value() -> None:
    base = "K=`OLD1\nOLD2\nOLD3`\nB=1\n"
    other = base.replace("B=1", "B=2")
    new = base.replace("OLD", "NEW")
    assert merged(base, new, other) == ("K=`NEW1\nNEW2\nNEW3`\nB=2\n", ())
    # Two halves: each side changed another line of one value.
    text, conflicts = merged(base, base.replace("OLD1", "X"), base.replace("OLD3", "Y"))
    assert conflicts == ("K",)
    assert "X\nOLD2\nY" not in text


@pytest.mark.parametrize(
    "base",
    [
        "A=1\nK=`OLD1\nOLD2\nOLD3\nB=1\n",
        f"A=1\nK={B64}\n{B64}\nOLD3==\nB=1\n",
        "A=1\nK=OLD1\nOLD2\nOLD3\nB=1\n",
        'A=1\nK="OLD1\nOLD2\nOLD3\nB=1\n',
    ],
)
def test_every_difference_is_a_conflict(base: str) -> None:
    ours = base.replace(base.split("\n")[1], "K=NEW1")
    theirs = base.replace("OLD3", "NEW3").replace("A=1", "A=2")
    text, conflicts = merged(base, ours, theirs)
    assert len(conflicts) >= 2
    assert text.count("<<<<<<< o") == len(conflicts)
    for line in (*ours.split("\n"), *theirs.split("\n")):
        assert line in text
