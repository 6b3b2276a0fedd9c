"""A command in a hint runs as it is pasted, also where a path needs quotes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from dorky import errors, ownership
from dorky.cli import hints
from dorky.project import Project


def test_a_directory_with_a_space_that_everyone_may_change(tmp_path: Path) -> None:
    place = tmp_path / "a b"
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(errors.WritableByAll) as caught:
        ownership.check(place, [place], {place.stat().st_uid})
    command = hints.hint(caught.value).partition(";")[0]
    assert shlex.split(command) == ["chmod", "o-w", str(place)]


def test_a_directory_with_a_space_of_another_user(tmp_path: Path) -> None:
    place = tmp_path / "a b"
    place.mkdir()
    with pytest.raises(errors.DubiousOwnership) as caught:
        ownership.check(place, [place], {place.stat().st_uid + 1})
    command = hints.hint(caught.value).partition(": ")[2]
    assert shlex.split(command)[-1] == str(place)


def test_state_of_another_key_below_a_space(tmp_path: Path) -> None:
    place = tmp_path / "a b"
    (place / ".dorky" / ("ab" * 32)).mkdir(parents=True)
    error = Project(place).nothing_known()
    assert isinstance(error, errors.ForeignState)
    command = hints.hint(error).rpartition(": ")[2]
    assert shlex.split(command) == ["rm", "-r", f"{place}/.dorky/abababab*"]


def test_an_unencrypted_repository_is_cloned_by_the_command_of_the_hint() -> None:
    hint = hints.hint(errors.UnencryptedRepository("/a b/vault", cloning="/a b/vault"))
    command = hint.rpartition(": ")[2]
    assert shlex.split(command) == ["dorky", "clone", "/a b/vault", "--plain"]
