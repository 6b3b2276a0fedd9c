"""What reaches the terminal of text that others wrote, and what a hint makes people paste."""

from __future__ import annotations

import io
import os
import pty
import select
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import msgspec
import pytest
from attacks import EVIL, NOW, STEERING, Forge, Place, changed, everything, rewrite
from machines import Machine, signed, started
from servers import Remote
from teams import Team, cloned, gather

from dorky import errors
from dorky.cli import failures, hints, main, output
from dorky.cli.output import Settings
from dorky.format import model
from dorky.format.model import Commit, Kind, Member
from dorky.keys import age
from dorky.remote import root as roots
from dorky.store import history

NASTY = "a b; touch pwned $(touch pwned) 'x\"`touch pwned`\\"


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    Settings.quiet, Settings.verbose, Settings.color = False, 0, True
    yield
    Settings.quiet, Settings.verbose, Settings.color = False, 0, True


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def steers(text: str) -> set[str]:
    return set(text) & set(STEERING)


# --- one wall -------------------------------------------------------------------------------


@pytest.mark.parametrize("print_", [output.say, output.note])
def test_whatever_is_printed_steers_nothing(print_: object) -> None:
    out = io.StringIO()
    with mock.patch.multiple(sys, stdout=out, stderr=out):
        print_(f"two\n{EVIL}\tlines \x1b[8mhidden\x1b[0m")  # type: ignore[operator]
    assert not steers(out.getvalue().replace("\x1b[0m", ""))
    assert out.getvalue().count("\n") == 2
    assert "\\u001b[8m" in out.getvalue()


def test_colours_of_ours_stay() -> None:
    out = Terminal()
    with mock.patch.multiple(sys, stdout=out), mock.patch.dict(os.environ, {"TERM": "xterm"}):
        os.environ.pop("NO_COLOR", None)
        text = output.style("M", fg="yellow", bold=True) + output.style("x", fg="bright_red")
        output.say(text)
    assert "\x1b[" in text
    assert out.getvalue() == f"{text}\n"


def test_questions_steer_nothing() -> None:
    for ask in (output.agree, lambda text: output.confirm(text, "x")):
        err, answers = Terminal(), Terminal("no\n")
        with mock.patch.multiple(sys, stderr=err, stdin=answers):
            assert not ask(f"Really {EVIL}?")
        assert "Really" in err.getvalue()
        assert not steers(err.getvalue())


def test_a_prompt_for_a_secret_steers_nothing() -> None:
    prompts: list[str] = []
    with (
        mock.patch.multiple(sys, stderr=Terminal(), stdin=Terminal()),
        mock.patch("getpass.getpass", lambda prompt, **_: prompts.append(prompt) or ""),
    ):
        output.ask(f"Passphrase of {EVIL}")
    assert len(prompts) == 1
    assert not steers(prompts[0])


def test_a_traceback_steers_nothing() -> None:
    err = io.StringIO()
    Settings.verbose = 2
    with mock.patch.multiple(sys, stderr=err):
        with pytest.raises(ValueError, match="words") as caught:
            raise ValueError(f"a server's words: {EVIL}\nand {EVIL}")
        assert failures.failed(caught.value) == 70
    assert "Traceback" in err.getvalue()
    assert "test_terminal.py" in err.getvalue()
    assert not steers(err.getvalue())


def test_a_bar_steers_nothing_and_takes_no_markup() -> None:
    err = Terminal()
    with (
        mock.patch.multiple(sys, stderr=err),
        mock.patch.object(output, "_PATIENCE", 0),
        mock.patch.dict(os.environ, {"TERM": "xterm"}),
    ):
        progress = output.TerminalProgress()
        progress.start("[/red]\x1b]0;owned\x07", 10, "B")
        progress.advance(5)
        progress.finish()
    assert "[/red]\\u001b]0;owned" in err.getvalue()
    assert "\x1b]0;" not in err.getvalue()


class PanicException(BaseException):
    """As pyo3 calls it; it can't be imported."""


def test_a_panic_is_a_bug_and_not_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def panic(*_: object, **__: object) -> None:
        raise PanicException("index out of bounds")

    with mock.patch.object(main, "app", panic):
        assert main.run(["status"]) == 70
    said = capsys.readouterr().err
    assert said.startswith("error: a bug in dorky: PanicException: index out of bounds")
    assert "Traceback" not in said


def test_an_exit_is_no_panic() -> None:
    def leave(*_: object, **__: object) -> None:
        raise SystemExit(3)

    with mock.patch.object(main, "app", leave), pytest.raises(SystemExit):
        main.run(["status"])


def test_the_prompt_for_a_dorkyrc_of_others(tmp_path: Path, file_url: Remote) -> None:
    """On a real terminal: a URL that holds escapes reaches no prompt, and is shown harmless."""
    eve = started(tmp_path / "eve", file_url, {".env": "A=1\n"})
    eve.env["DORKY_PASSPHRASE"] = "correct horse battery"
    eve("team", "add", "x", "passphrase")
    victim = Machine(tmp_path / "victim", {})
    evil = "vault\x1b]0;owned\x07\x1b[2J"
    (Path(file_url.url).parent / evil).symlink_to(file_url.url)
    rc = (eve.project / ".dorkyrc").read_text()
    assert file_url.url in rc
    escaped = str(Path(file_url.url).parent / "vault\\u001b]0;owned\\u0007\\u001b[2J")
    (victim.project / ".dorkyrc").write_text(rc.replace(file_url.url, escaped))
    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(victim.project)
        environment = {"HOME": str(victim.home), "PATH": os.environ["PATH"], "TERM": "xterm"}
        os.execve(sys.executable, [sys.executable, "-m", "dorky", "pull"], environment)
    said, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([descriptor], [], [], 0.5)[0]:
            continue
        try:
            more = os.read(descriptor, 4096)
        except OSError:
            break
        said += more
        if b"none):" in more:
            os.write(descriptor, b"\n")
        if not more:
            break
    os.close(descriptor)
    os.waitpid(pid, 0)
    assert b"none):" not in said
    assert b"owned" in said
    assert b"\x1b]0;" not in said
    assert b"\x1b[2J" not in said


# --- hints ----------------------------------------------------------------------------------

CLASSES = [
    found
    for found in vars(errors).values()
    if isinstance(found, type)
    and issubclass(found, errors.DorkyError)
    and "{" in hints.usual(found)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_what_a_hint_is_given_is_quoted_for_the_shell(kind: type[errors.DorkyError]) -> None:
    """Whatever is between the words of a hint is one word, or in no command."""
    hint = hints.hint(kind(*([NASTY] * 4)))
    # No command; a name of a group; a command that was put together, and quoted, elsewhere.
    if kind not in {errors.NoDriver, errors.GitFailed}:
        assert any(NASTY in word for word in shlex.split(hint)), hint
    plain = hints.hint(kind(*(["a/b.env"] * 4)))
    assert "a/b.env" in plain
    assert "'a/b.env'" not in plain


def test_the_hints_of_commands_are_quoted(tmp_path: Path, file_url: Remote) -> None:
    name = "a $(touch pwned); b"
    content = {f"{name}.json": "{", f"{name}.txt": "x\n", f"{name}/x": "x\n"}
    ana = started(tmp_path / "ana", file_url, content, "--name", "ana")
    for command, word in (
        (["get", f"{name}.json", "x"], f"{name}.json"),
        (["get", f"{name}.txt", "x"], f"HEAD:{name}.txt"),
        (["set", f"{name}.txt", "x=y"], f"{name}.txt"),
        (["show", f"HEAD:{name}.txt", "--json"], f"{name}.txt"),
        (["cat", f"HEAD:{name}"], name),
        (["commit", "a", "$(touch", "pwned)"], "a $(touch pwned)"),
        (["config", "get", f"remotes.{name}.url"], f"remotes.{name}.url"),
    ):
        said = ana.run(*command)
        if "hint: " in said.err:
            words = shlex.split(said.hint.replace(",", " "))
            assert not {"$(touch", "pwned);"} & set(words), said
            assert word in words or name not in said.hint, said
    (ana.project / f"{name}.pub").write_text("x")
    said = ana("key", "use", f"{name}.pub", code=2)
    assert shlex.split(said.hint)[-1] == str(ana.project / name)


# --- messages of commits --------------------------------------------------------------------


@pytest.mark.parametrize("message", ["", "\n", "\r\n\n", " ", "\x0b\x0c\u2028", "\x1b[2J", "\n\nx"])
def test_a_message_without_a_first_line(tmp_path: Path, file_url: Remote, message: str) -> None:
    team: Team = gather(tmp_path, file_url)
    with Forge(team.ben) as forge:
        made = Commit(forge.trees, (forge.head,), f"Ben {EVIL}", NOW, message)
        forge.publish(forge.add(Kind.COMMIT, model.encode(signed(forge.repo, made))))
    team.ana.write(".env", "A=2\n")
    team.ana("commit", "-am", "mine")
    said = team.ana("push", code=5)
    assert not steers(said.err)
    for command in (["fetch"], ["log"], ["log", "--oneline"], ["status"], ["op", "log"], ["sync"]):
        said = team.ana(*command)
        assert not steers(said.out + said.err)
    fresh = cloned(team.ana, "dan")
    assert fresh.run("pull").code == 6


@pytest.mark.parametrize(
    ("message", "first"),
    [("", ""), ("\n", ""), ("a\nb", "a"), ("\n a \nb", "a"), ("\u2028x", "x"), ("  ", "")],
)
def test_the_subject_of_a_message(message: str, first: str) -> None:
    assert history.subject(message).strip() == first


def test_an_operation_whose_message_has_no_line(tmp_path: Path, file_url: Remote) -> None:
    ana = started(tmp_path / "ana", file_url, {".env": "A=1\n"}, "--name", "ana")
    real = history.read_commit

    def empty(*arguments: object) -> object:
        import msgspec

        return msgspec.structs.replace(real(*arguments), message="\n")  # type: ignore[arg-type]

    with mock.patch.object(history, "read_commit", empty):
        ana("op", "log")


# --- rosters --------------------------------------------------------------------------------


def test_names_in_a_roster_that_steer_the_terminal(team: Team, place: Place) -> None:
    for name in (EVIL, "", "a b", "a\n", "x" * 65):
        true = place.root
        with Forge(team.ben) as forge:
            known = forge.seen.root.roster
            evil = msgspec.structs.replace(
                known, members=(*known.members, Member(name, (age.generate().public,)))
            )
            root = roots.successor(forge.seen.root, roster=evil)
            place.keep(roots.encode(forge.seen.header, root, forge.repo.vault, forge.repo.signer))
            before = everything(team.ana)
            said = team.ana("pull", code=7)
            assert not set(said.err) & set(STEERING)
            assert everything(team.ana) == before
            place.keep(true)
        team.ben("pull")


def test_patterns_and_keys_in_a_roster_that_steer_the_terminal(team: Team) -> None:
    team.ana("group", "add", "prod", f"env/{EVIL}/**")
    team.ana("rotate")
    for each in team:
        each("pull")
        for command in (
            ["group", "list"],
            ["group", "list", "--json"],
            ["team", "list"],
            ["status"],
            ["stage", f"env/{EVIL}/x"],
            ["team", "list", f"env/{EVIL}/x"],
        ):
            said = each.run(*command)
            assert not set(said.out + said.err) & set(STEERING), command
    rewrite(team.ben, lambda known: changed(known, "ben", recipients=(f"age1{EVIL}", EVIL)))
    for command in (["pull"], ["team", "list"], ["team", "list", "--json"], ["rotate"], ["status"]):
        said = team.ana.run(*command)
        assert not set(said.out + said.err) & set(STEERING), command
