"""Readers of `.env` files differ: what dorky reads, and what it refuses to work on by key."""

from __future__ import annotations

import pytest
from dotenv import dotenv_values

from dorky import errors
from dorky.documents import parse

B64 = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2"


def read(text: str) -> dict[str, str]:
    return parse(".env", text.encode()).items()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        # Backticks are node's; nothing is escaped in them.
        ("K=`OLD1\nOLD2\nOLD3`\nB=2\n", {"K": "OLD1\nOLD2\nOLD3", "B": "2"}),
        ('K=`it\'s "both"` # why\n', {"K": 'it\'s "both"'}),
        ("export K = `a # b`\r\nB=1\r\n", {"K": "a # b", "B": "1"}),
        ("K=`a\r\nb`\r\n", {"K": "a\nb"}),
        ("K=`a\\`b`\n", {"K": "a\\`b"}),
        ("K=`C:\\dir\\`\nB=1\n", {"K": "C:\\dir\\", "B": "1"}),
        ("K=``\n", {"K": ""}),
        # Here all readers but bash see text.
        ("K=`a`b\nL=b`a`\nM=x`\n", {"K": "`a`b", "L": "b`a`", "M": "x`"}),
        ("K=\"a`b\"\nL='`'\n", {"K": "a`b", "L": "`"}),
        ("K=it's\nL=5\"\n", {"K": "it's", "L": '5"'}),
        # What python-dotenv and bash take for a name without a value.
        ("export A\nB=1\n", {"B": "1"}),
        # Tokens without padding, with it, and empty variables after them.
        (f"K={B64}\nDEBUG=\n", {"K": B64, "DEBUG": ""}),
        (f"K={B64}\nAPI_KEY=\nFOO=\n", {"K": B64, "API_KEY": "", "FOO": ""}),
        ("K=QUJDREVGR0hJSktMTU5PUA==\nabc=\n", {"K": "QUJDREVGR0hJSktMTU5PUA==", "abc": ""}),
    ],
)
def test_what_is_read(text: str, values: dict[str, str]) -> None:
    assert read(text) == values
    assert parse(".env", text.encode()).dump() == text.encode()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\nK=`abc\nE=1\n", 2),
        ("K=`\n", 1),
        ("K=`a`b`\n", 1),
        ("A=1\nK='abc\nE=1\n", 2),
        ('A=1\nK="abc\nE=1\n', 2),
        ("A=1\nword\nE=1\n", 2),
        ("K=abc\ndef\nE=1\n", 2),
        ('K=a"b\nc"\nE=1\n', 2),
        ("K=a\\\nb\n", 2),
        ("K=" + B64 + "\n" + B64 + "\nZm9v\n", 2),
        (f"K={B64}\nYmFyZm9v==\n", 2),
        (f"K={B64}\nYmFyZm8=\n", 2),
        (f"export K={B64}\r\nYg==\r\n", 2),
        (f"A={B64}\n\nK={B64}\nab+/Zm8=\nB=1\n", 4),
        ("A=1\nhttps://db.example/x?ssl=1\n", 2),
        ("export 2\n", 1),
        ("export\nA=1\n", 1),
        ("A: 1\n", 1),
        ("A[0]=1\n", 1),
    ],
)
def test_what_may_be_half_of_a_value_is_refused(text: str, line: int) -> None:
    with pytest.raises(errors.BadDocument, match=f"line {line} "):
        read(text)


def test_setting_replaces_a_whole_value_in_backticks() -> None:
    document = parse(".env", b"K=`OLD1\nOLD2` # why\nB=1\n")
    document.set("K", "new one")
    assert document.dump() == b"K='new one' # why\nB=1\n"
    document = parse(".env", b"A=1\nK=`OLD1\nA=3\nOLD2`\nB=1\n")
    document.unset("K")
    assert document.dump() == b"A=1\nB=1\n"


def test_what_is_written_is_no_backtick_to_any_reader() -> None:
    document = parse(".env", b"")
    document.set("K", "`a`")
    assert document.dump() == b"K='`a`'\n"
    assert document.items() == {"K": "`a`"}


def test_other_files_are_read_as_python_dotenv_does(tmp_path) -> None:  # type: ignore[no-untyped-def]
    text = "A=1 B=2\nC=x#y\nD=x #y\nE=\"x\"#y\nF= # y\nG=#y\nH='a\\\\b'\nI=\"a\\nb\"\n'J'=1\n1K=2\n"
    (tmp_path / ".env").write_text(text)
    assert read(text) == dotenv_values(tmp_path / ".env", interpolate=False)
