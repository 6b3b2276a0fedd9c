"""A NUL character in a JSON file is an error of the file, not a bug in dorky."""

from __future__ import annotations

import pytest
from machines import Machine

from dorky import errors


def test_a_nul_is_no_crash(ana: Machine) -> None:
    ana("init")
    ana.write("a.json", '{"A": "canary\\u0000x", "B": "1"}')
    for words in (("run",), ("run", "--mask")):
        said = ana.run(*words, "-f", "a.json", "--", "true")
        assert said.code == 2
        assert "A in a.json holds a NUL character" in said.err
        assert "canary" not in said.err
    with ana.repo() as repo:
        with pytest.raises(errors.UnusableValue):
            repo.environment(["a.json"])
        assert repo.environment(["a.json"], only=["B"]) == {"B": "1"}
