"""How versions of a file differ, and what of it is shown."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dorky.merge.diff import Version, compare
from dorky.results import FileDiff, KeyChange

CANARY = "canary-zq9x"


def version(data: str | bytes | None, mode: int = 0o100644) -> Version | None:
    if data is None:
        return None
    raw = data.encode() if isinstance(data, str) else data
    return Version(mode, len(raw), str(hash(raw)), raw)


def differ(
    path: str,
    old: str | bytes | None,
    new: str | bytes | None,
    *,
    secret: bool = False,
    reveal: bool = False,
) -> FileDiff:
    return compare(path, version(old), version(new), secret=secret, reveal=reveal)


def keys(found: FileDiff) -> list[tuple[str, str, str | None, str | None]]:
    assert found.kind == "keys"
    return [(each.key, each.what, each.old, each.new) for each in found.keys]


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (".env", "A=1\nB=1\n# c\nD=1\n", "B=2\n# e\nD=1\nC=1\n"),
        ("a.json", '{"A": "1", "B": "1", "D": 1}', '{"D": 1, "B": "2", "C": "1"}'),
        ("a.toml", 'A = "1"\nB = "1"\n', 'B = "2"\nC = "1"\n'),
        ("a.yaml", "A: '1'\nB: '1'\n", "B: '2'\nC: '1'\n"),
    ],
)
def test_documents_by_key(path: str, old: str, new: str) -> None:
    shown = differ(path, old, new, reveal=True)
    assert keys(shown) == [
        ("A", "removed", "1", None),
        ("B", "changed", "1", "2"),
        ("C", "added", None, "1"),
    ]
    assert (shown.added, shown.removed, shown.masked, shown.what) == (2, 2, False, "modified")
    hidden = differ(path, old, new)
    assert [(each.old, each.new) for each in hidden.keys] == [
        ("********", None),
        ("********", "********"),
        (None, "********"),
    ]
    assert hidden.masked


def test_nested_keys_kinds_and_lists() -> None:
    found = differ(
        "a.json", '{"a": {"b": "1"}, "l": [1]}', '{"a": {"b": 1}, "l": [1, 2]}', reveal=True
    )
    assert keys(found) == [
        ("a.b", "changed", "1 (string)", "1 (number)"),
        ("l.1", "added", None, "2"),
    ]


def test_files_that_come_and_go() -> None:
    came = differ(".env", None, "A=1\n")
    assert (came.what, came.kind, came.old_size, came.new_size) == ("added", "keys", None, 4)
    assert came.keys == (KeyChange(key="A", what="added", old=None, new="********"),)
    assert (came.old_id, came.old_mode, came.new_mode) == ("", "", "100644")
    went = differ("notes.txt", "a\nb", None)
    assert (went.what, went.kind, went.new_size, went.removed) == ("deleted", "text", None, 2)
    assert went.text == "@@ -1,2 +0,0 @@\n-a\n-b\n\\ No newline at end of file\n"
    empty = differ(".env", None, "")
    assert (empty.kind, empty.text, empty.added) == ("text", "", 0)


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (".env", f"# {CANARY}\nA=1\n", f"# old {CANARY}\nA=1\n"),  # only a comment
        (".env", f"A='{CANARY}\n", "A=1\n"),  # malformed
        ("a.yaml", f"a: {CANARY}\n", f"<<<<<<< ours\na: {CANARY}\n"),
        ("a.json", f'{{"a": "{CANARY}"}}', f'{{"a":\n"{CANARY}"}}'),
    ],
)
def test_of_documents_no_line_is_shown(path: str, old: str, new: str) -> None:
    hidden = differ(path, old, new)
    assert (hidden.kind, hidden.masked) == ("text", True)
    assert "zq9x" not in repr(hidden)
    assert hidden.added
    assert hidden.removed or path == "a.yaml"
    assert "zq9x" in differ(path, old, new, reveal=True).text


def test_secret_text_keeps_its_numbers() -> None:
    old, new = "1\n2\n3\n4\n5\nkey\n", "1\n2\n3\n4\n5\nother\nmore\n"
    shown = differ("id.pem", old, new, secret=True, reveal=True)
    assert shown.text == "@@ -3,4 +3,5 @@\n 3\n 4\n 5\n-key\n+other\n+more\n"
    hidden = differ("id.pem", old, new, secret=True)
    dots = "********"
    assert hidden.text == f"@@ -3,4 +3,5 @@\n {dots}\n {dots}\n {dots}\n-{dots}\n+{dots}\n+{dots}\n"
    assert (hidden.added, hidden.removed, hidden.masked) == (2, 1, True)
    assert differ("id.txt", old, new).text == shown.text


def test_what_is_no_text() -> None:
    for path in ("a", ".env", "a.json"):
        found = differ(path, b"\0a", b"\xff\xfe")
        assert (found.kind, found.text, found.keys) == ("binary", "", ())
        assert (found.old_size, found.new_size, found.masked) == (2, 2, False)
        assert found.old_id != found.new_id
    large = Version(0o100644, 1 << 30, "id", None)
    assert compare("a", large, version("x"), secret=False, reveal=True).kind == "binary"


def test_modes_and_links() -> None:
    old, new = version("a\n"), version("a\n", 0o100755)
    found = compare("a.sh", old, new, secret=False, reveal=False)
    assert (found.kind, found.old_mode, found.new_mode) == ("mode", "100644", "100755")
    link = compare(".env", version("A=1\n"), version("A=2", 0o120000), secret=True, reveal=True)
    assert (link.kind, link.old_mode, link.new_mode) == ("text", "100644", "120000")


texts = st.lists(st.sampled_from(["a", "b", "c", "d", "e", ""]), max_size=25).map("\n".join)


@settings(max_examples=40, deadline=None)
@given(texts, texts)
def test_git_applies_it(tmp_path_factory: pytest.TempPathFactory, old: str, new: str) -> None:
    found = differ("notes", old, new)
    if old == new or not (old and new):
        return
    place = tmp_path_factory.mktemp("apply")
    (place / "notes").write_text(old)
    patch = f"--- a/notes\n+++ b/notes\n{found.text}"
    subprocess.run(
        ["git", "apply", "--whitespace=nowarn"], cwd=place, input=patch.encode(), check=True
    )
    assert Path(place / "notes").read_text() == new
