"""What the user is asked before `.dorkyrc` may choose credentials, and where they go."""

from __future__ import annotations

import pytest
from machines import Machine
from terminals import Terminal

_RC = 'version = 2\n[remotes.origin]\nurl = "s3://acme-vault/x"\nendpoint = "http://127.0.0.1:9"\n'
_KEYS = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s"}


@pytest.mark.parametrize(("typed", "code"), [("yes\n", 8), ("no\n", 6)])
def test_asked_once_on_a_terminal(ana: Machine, terminal: Terminal, typed: str, code: int) -> None:
    (ana.project / ".dorkyrc").write_text(_RC)
    shown = terminal(ana, "pull", until="(yes/no)", typed=typed, **_KEYS)
    assert ".dorkyrc wants for s3://acme-vault:" in shown.text
    assert "the server http://127.0.0.1:9 (not encrypted)" in shown.text
    assert shown.code == code
    if typed == "yes\n":
        again = terminal(ana, "pull", **_KEYS)
        assert "yes/no" not in again.text
        assert again.code == 8


def test_nobody_is_asked_without_one(ana: Machine) -> None:
    (ana.project / ".dorkyrc").write_text(_RC)
    ana.env |= _KEYS
    said = ana("pull", code=6)
    assert "which you have not allowed yet" in said.error
    assert said.hint.endswith("remote allow s3://acme-vault --endpoint http://127.0.0.1:9")
