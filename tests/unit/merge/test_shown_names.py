"""Keys that may be parts of secrets are hidden in diffs."""

from __future__ import annotations

from dorky.merge.diff import Version, compare
from dorky.results import FileDiff

URL = "https://ana:canary-zq9x@db.example/x?ssl"


def differ(path: str, old: str, new: str, *, reveal: bool = False) -> FileDiff:
    sides = (Version(0o100644, len(text), str(hash(text)), text.encode()) for text in (old, new))
    return compare(path, *sides, secret=False, reveal=reveal)


def test_a_pasted_address_is_no_name() -> None:
    env = differ(".env", "A=1\n", f"A=2\n{URL}=1\n")
    assert (env.kind, env.masked) == ("text", True)
    for path, text in (("a.json", f'{{"A": 1, "{URL}": 1}}'), ("a.yaml", f"A: 1\n{URL}: 1\n")):
        found = differ(path, '{"A": 1}', text)
        assert [key.key for key in found.keys] == ["********"]
        assert "zq9x" not in repr((env, found))
        assert "zq9x" in repr(differ(path, '{"A": 1}', text, reveal=True).keys)


def test_lines_of_a_wrapped_value_are_no_names() -> None:
    wrapped = "A=c2VjcmV0LWZpcnN0LWxpbmUtY2FuYXJ5\nc2VjcmV0LXNlY29uZC1saW5l\nenE5eA==\n"
    for text in (wrapped, wrapped.replace("A=", 'A="'), wrapped.replace("A=", "A=`")):
        found = differ(".env", "A=1\n", text)
        assert (found.kind, found.masked) == ("text", True)
        assert "c2VjcmV0" not in repr(found)
        assert "enE5eA" not in repr(found)


def test_contents_of_secrets_are_hidden_whatever_the_name() -> None:
    for path in ("notes.txt", ".envrc", "app.ini"):
        found = differ(path, "[db]\nhost = a\n", "[db]\nhost = a\npassword = canary-zq9x\n")
        assert (found.kind, found.masked) == ("text", True)
        assert "zq9x" not in repr(found)
        shown = differ(path, "", "password = canary-zq9x\n", reveal=True)
        assert "zq9x" in shown.text
    assert not differ("notes.txt", "a\n", "b\n").masked
