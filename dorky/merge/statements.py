"""Merging documents statement by statement: the text of each is that of the side that changed it.

A statement is a variable of a `.env` file, or the lines from a key up to the next one; comments
belong to the key that follows. The result is a proposal: `keymerge` checks its values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from dorky import errors
from dorky.documents import Leaf, Syntax, parse, syntax_of

Label: TypeAlias = "tuple[str, str, int]"
"""A kind (`key`, `#` or `end`), a key, and the number of its occurrence."""


class _Statement(NamedTuple):
    """The text of a statement, and the values that begin in it."""

    text: str
    values: tuple[tuple[str, Leaf | None], ...] = ()

    def same(self, other: _Statement | None) -> bool:
        """Return whether two statements have the same text, apart from what separates them."""
        return other is not None and self._bare == other._bare  # noqa: SLF001 - the same class

    @property
    def _bare(self) -> str:
        return self.text.rstrip("\r\n").removesuffix(",")


_Statements: TypeAlias = "dict[Label, _Statement]"


class Statements(NamedTuple):
    """The statements of the common ancestor and of both sides."""

    path: str
    base: _Statements
    ours: _Statements
    theirs: _Statements

    def merged(self) -> bytes:
        """Return the text in which every statement is as on the side that changed it."""
        made: list[tuple[Label, _Statement]] = []
        for label, our in self.ours.items():
            was, their = self.base.get(label), self.theirs.get(label)
            if their is None:
                if not our.same(was):
                    made.append((label, our))
                continue
            changed_values = was is not None and our.values != was.values == their.values
            takes = was is not None and not their.same(was) and (our.same(was) or changed_values)
            made.append((label, their if takes else our))
        made = self._with_additions(made)
        texts = [_ended(statement.text, self) for _, statement in made[:-1]]
        texts += [statement.text for _, statement in made[-1:]]
        if syntax_of(self.path) is Syntax.JSON:
            texts = list(_separated([label for label, _ in made], texts))
        return "".join(texts).encode()

    def _with_additions(
        self, made: list[tuple[Label, _Statement]]
    ) -> list[tuple[Label, _Statement]]:
        """Return statements with those that the other side added, after ours at the same place."""
        present = dict(made)
        after: dict[Label | None, list[tuple[Label, _Statement]]] = {}
        anchor: Label | None = None
        for label, their in self.theirs.items():
            if label not in self.base and label not in self.ours:
                after.setdefault(anchor, []).append((label, their))
            elif label in present:
                anchor = label
        found: list[tuple[Label, _Statement]] = []
        waiting = after.get(None, [])
        for label, statement in made:
            if label in self.base or label in self.theirs:
                found += waiting
                waiting = after.get(label, [])
            found.append((label, statement))
        return found + waiting

    def keeps_most(self, result: bytes) -> bool:
        """Return whether `keeps` holds, or fails only where the other side changed the value."""
        return self.keeps(result, also_beside_values=False)

    def keeps(self, result: bytes, *, also_beside_values: bool = True) -> bool:
        """Return whether a merged text has each one-sided change that leaves values as they are."""
        found = split(self.path, result)
        for one, other in ((self.ours, self.theirs), (self.theirs, self.ours)):
            for label, statement in one.items():
                was = self.base.get(label)
                if _has_lost_comment(label, statement, was, other, found):
                    return False
                if (
                    label[0] == "end"
                    or was is None
                    or statement.same(was)
                    or statement.values != was.values
                ):
                    continue
                theirs, now = other.get(label), found.get(label)
                if was.same(theirs) and not statement.same(now):
                    return False
                changed = theirs is not None and theirs.values != was.values
                if also_beside_values and changed and now and now.same(theirs):
                    return False
        return True


def _has_lost_comment(
    label: Label,
    statement: _Statement,
    was: _Statement | None,
    other: _Statements,
    found: _Statements,
) -> bool:
    """Return whether one side added a comment that is not in the result, though its key is."""
    kind, key, _ = label
    if not statement.text.lstrip().startswith("#") or was or label in other:
        return False
    if kind == "key" or statement.same(found.get(label)):
        return False
    return not key or ("key", key, 0) in found


def statements(path: str, base: bytes | None, ours: bytes, theirs: bytes) -> Statements:
    """Return the statements of three versions of a document."""
    return Statements(path, *(split(path, data or b"") for data in (base, ours, theirs)))


def split(path: str, data: bytes) -> _Statements:
    """Return the statements of a document, in order; together they are its text."""
    try:
        document = parse(path, data)
    except errors.BadDocument:
        return {}
    leaves = document.leaves()
    found: _Statements = {}
    seen: Counter[tuple[str, str]] = Counter()
    pending: list[str] = []

    def add(kind: str, key: str, text: str, keys: tuple[str, ...] = ()) -> None:
        label = (kind, key, seen[kind, key])
        seen[kind, key] += 1
        found[label] = _Statement(text, tuple((key, leaves.get(key)) for key in keys))

    for text, keys in document.statements():
        bare = text.strip()
        if keys:
            for comment in pending:
                add("#", keys[0], comment)
            pending.clear()
            add("key", keys[0], text, keys)
        elif bare and not bare.strip("]},"):
            pending.append("")
            for comment in pending:
                add("end", "", comment or text)
            pending.clear()
        else:
            pending.append(text)
    for comment in pending:
        add("#", "", comment)
    return found


def _ended(text: str, of: Statements) -> str:
    """Return a statement with a line end; only the last one of a file may lack it."""
    if text.endswith(("\n", "\r")) or not text:
        return text
    whole = "".join(statement.text for statement in of.ours.values())
    return text + ("\r\n" if "\r\n" in whole else "\n")


def _separated(labels: list[Label], texts: list[str]) -> Iterator[str]:
    """Yield the lines of a JSON file, with commas between entries and nowhere else."""
    for at, text in enumerate(texts):
        body = text.rstrip("\r\n")
        end, body = text[len(body) :], body.rstrip().removesuffix(",")
        last = at + 1 == len(texts) or labels[at + 1][0] == "end"
        opens = body.endswith(("{", "["))
        yield body + ("" if last or opens or not body else ",") + end
