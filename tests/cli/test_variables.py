"""run, get, set, unset, edit, export: what they take and what they say."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from machines import Machine, Said
from terminals import Terminal

from dorky.results import Edited

CANARY = "hunter2-canary-value"


@pytest.fixture
def secret(project: Machine) -> Machine:
    """A project with a secret, committed."""
    project.commit({".env": f"# keys\nTOKEN={CANARY}\nPORT=80\n"})
    return project


def dorky(
    machine: Machine, *arguments: str, given: bytes = b"", **env: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command as a process of its own."""
    with machine.here():
        return subprocess.run(
            [sys.executable, "-m", "dorky", *arguments],
            env={**os.environ, **env},
            input=given,
            capture_output=True,
            check=False,
        )


def piped(machine: Machine, data: bytes, *arguments: object, code: int = 0) -> Said:
    """Run a command with something on its standard input."""
    with mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(data))):
        return machine(*arguments, code=code)


# --- run ------------------------------------------------------------------------------------


def test_run(secret: Machine) -> None:
    line = 'echo "$TOKEN $PORT $0 $*"; echo oops >&2; exit 7'
    done = dorky(secret, "run", "--", "sh", "-c", line, "a", "-b", "--", "--json")
    assert (done.returncode, done.stderr) == (7, b"oops\n")
    assert done.stdout.decode() == f"{CANARY} 80 a -b -- --json\n"


def test_run_ends_where_the_command_begins(secret: Machine) -> None:
    done = dorky(secret, "run", "--only", "PORT", "sh", "-c", 'echo "$PORT $TOKEN"', "-f", "--rev")
    assert (done.returncode, done.stdout) == (0, b"80 \n")


def test_run_passes_standard_input(secret: Machine) -> None:
    assert dorky(secret, "run", "cat", given=b"\0text").stdout == b"\0text"
    assert dorky(secret, "run", "--mask", "cat", given=b"\0text").stdout == b"\0text"


def test_run_which_variables_win(secret: Machine) -> None:
    secret.write("b.env", "PORT=81\nB=b\n")
    show = ("sh", "-c", 'echo "$TOKEN $PORT $B $HERE"')
    env = {"PORT": "1", "HERE": "here"}
    files = ("-f", ".env", "-f", "b.env")
    assert dorky(secret, "run", *files, *show, **env).stdout.split() == [
        *(CANARY.encode(), b"1", b"b", b"here")
    ]
    assert dorky(secret, "run", *files, "--overload", *show, **env).stdout.split() == [
        *(CANARY.encode(), b"81", b"b", b"here")
    ]
    assert dorky(secret, "run", "--pristine", "env", **env).stdout == (
        f"TOKEN={CANARY}\nPORT=80\n".encode()
    )
    assert dorky(secret, "run", "--rev", "HEAD~1", "sh", "-c", 'echo "$KEY"').stdout == b"2\n"


def test_run_takes_values_literally(ana: Machine) -> None:
    ana("init")
    ana.write(".env", "A=1\nB='$A $(id) `id` ${A}'\nC=$A$(id)\n")
    done = dorky(ana, "run", "--pristine", "env")
    assert done.stdout == b"A=1\nB=$A $(id) `id` ${A}\nC=$A$(id)\n"


def test_run_refuses_what_changes_how_programs_load(secret: Machine) -> None:
    secret.write(".env", f"PATH=/{CANARY}\nGIT_DIR=x\n")
    done = dorky(secret, "run", "-vv", "--", "true")
    assert done.returncode == 2
    assert done.stderr.decode().endswith(
        "error: .env sets PATH, which changes how programs are found, loaded or run\n"
        "hint: if that is meant, add --allow-env PATH\n"
        "code: unsafe-variable\n"
    )
    assert CANARY.encode() not in done.stderr
    allowed = ("--allow-env", "PATH", "--allow-env", "GIT_DIR")
    done = dorky(secret, "run", *allowed, "--pristine", "env")
    assert done.stdout == f"PATH=/{CANARY}\nGIT_DIR=x\n".encode()


def test_run_of_what_is_no_command(secret: Machine) -> None:
    said = secret("run", "--", "no-such-command", code=4)
    assert said.error == "no-such-command can't be run: not found"
    secret.write("plain", "")
    said = secret("run", "--mask", "./plain", "-x", code=4)
    assert said.error == "./plain can't be run: it is not executable"
    assert secret("run", code=2).hint == "dorky run --help"
    assert secret("run", "-f", "no.env", "true", code=4).error == "no.env matches no file"


def test_run_with_masks(secret: Machine) -> None:
    line = 'echo "<$TOKEN>"; echo "[$TOKEN $PORT]" >&2; exit 3'
    done = dorky(secret, "run", "--mask", "sh", "-c", line)
    assert (done.returncode, done.stdout) == (3, b"<********>\n")
    assert done.stderr == b"[******** 80]\n"
    # Of a variable that is set already, what the command got is hidden.
    done = dorky(secret, "run", "--mask", "sh", "-c", line, TOKEN="from-outside")
    assert done.stdout == b"<********>\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_run_of_a_command_that_is_killed(secret: Machine, number: signal.Signals) -> None:
    line = f"kill -{int(number)} $$"
    assert dorky(secret, "run", "sh", "-c", line).returncode == -number
    done = dorky(secret, "run", "--mask", "sh", "-c", line)
    assert (done.returncode, done.stderr) == (128 + number, b"")


_COUNTS = """
import signal, sys, time
got = []
signal.signal(signal.SIGINT, lambda *_: got.append(1))
print("ready", flush=True)
while not got:
    time.sleep(0.01)
time.sleep(0.2)
print(f"interrupted {len(got)} times")
sys.exit(5)
"""


@pytest.mark.parametrize("options", [[], ["--mask"]])
def test_control_c_reaches_the_command_once(
    secret: Machine, terminal: Terminal, options: list[str]
) -> None:
    command = (sys.executable, "-c", _COUNTS)
    shown = terminal(secret, "run", *options, "--", *command, until="ready", typed="\x03")
    assert "interrupted 1 times" in shown.text
    assert shown.code == 5


def test_a_job_that_has_a_checkout_and_a_key(shared: Machine) -> None:
    job = shared.another("job")
    shutil.copy(shared.project / ".dorkyrc", job.project)
    done = dorky(job, "run", "--", "sh", "-c", 'echo "$KEY"')
    assert (done.returncode, done.stdout, done.stderr) == (0, b"2\n", b"")
    assert job("get", ".env", "KEY").out == "2\n"
    assert job("export", ".env", "-f", "shell").out == "export KEY='2'\n"
    assert job.files() == {}


def test_a_job_that_has_a_url_and_a_key(shared: Machine) -> None:
    job = shared.another("job")
    job.env["DORKY_URL"] = shared("remote", "list", "--json").json["origin"]
    assert job("get", "config/app.toml", "x").out == "1\n"
    assert dorky(job, "run", "sh", "-c", 'echo "$KEY"', **job.env).stdout == b"2\n"
    assert job.files() == {}


# --- get ------------------------------------------------------------------------------------


def test_get(secret: Machine) -> None:
    assert secret("get", ".env", "TOKEN").out == f"{CANARY}\n"
    assert secret("get", ".env").out == f"TOKEN={CANARY}\nPORT=80\n"
    assert secret("get", ".env", "KEY", "--rev", "HEAD~1").out == "2\n"
    assert secret("get", "config/app.toml", "x").out == "1\n"
    secret.write("a.yaml", 'a:\n  - x\n  - "two\\nlines"\n  - ""\n')
    assert secret("get", "a.yaml").out == 'a.0 = x\na.1 = "two\\nlines"\na.2 = \n'
    assert secret("get", "a.yaml", "a").out == '["x","two\\nlines",""]\n'
    assert secret("get", "a.yaml", "a.1", "-q").out == "two\nlines\n"


def test_get_as_json(secret: Machine) -> None:
    said = secret("get", ".env", "--json").json
    assert said["values"] == {"TOKEN": CANARY, "PORT": "80"}
    assert (said["source"]["path"], said["source"]["commit"]) == (".env", "")
    assert secret("get", ".env", "PORT", "--json").json["values"] == {"PORT": "80"}


def test_get_what_is_not_there(secret: Machine) -> None:
    said = secret("get", ".env", "TOKENS", code=4)
    assert (said.error, said.hint) == (".env has no TOKENS", "did you mean TOKEN?")
    secret.write("data.bin", b"\0")
    said = secret("get", "data.bin", code=2)
    assert said.hint == "dorky cat HEAD:data.bin"


# --- set ------------------------------------------------------------------------------------


def test_set_takes_the_value_from_a_pipe(secret: Machine) -> None:
    said = piped(secret, b"new value\n", "set", ".env", "TOKEN")
    assert (said.out, said.err) == ("Set TOKEN in .env, and staged it.\n", "")
    assert secret.read(".env") == b"# keys\nTOKEN='new value'\nPORT=80\n"
    said = piped(secret, b"new value", "set", ".env", "TOKEN")
    assert said.out == "TOKEN in .env is just that already.\n"
    said = piped(secret, b"1\n", "set", "d/new.json", "a.b", "--json")
    assert msgspec.convert(said.json, Edited) == Edited(path="d/new.json", key="a.b", what="added")
    assert list(said.json) == [field.name for field in msgspec.structs.fields(Edited)]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"a", "a"),
        (b"a\n", "a"),
        (b"a\r\n", "a"),
        (b"a\n\n", "a\n"),
        (b"\n", ""),
        (b" a\t", " a\t"),
    ],
)
def test_set_leaves_out_one_newline(secret: Machine, data: bytes, value: str) -> None:
    piped(secret, data, "set", ".env", "A")
    assert secret("get", ".env", "A", "--json").json["values"] == {"A": value}


def test_set_without_a_value_changes_nothing(secret: Machine) -> None:
    said = piped(secret, b"", "set", ".env", "TOKEN", code=2)
    assert said.error == "no value was given: nothing was changed"
    assert said.hint == "for an empty one: echo | dorky set .env TOKEN"
    piped(secret, b"\xff\n", "set", ".env", "TOKEN", code=2)
    assert secret("get", ".env", "TOKEN").out == f"{CANARY}\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["set", ".env", f"TOKEN={CANARY}"], "dorky set .env TOKEN"),
        (["set", ".env", "TOKEN", CANARY], "dorky set .env TOKEN"),
        (["set", ".env", "TOKEN", CANARY, "--json"], "dorky set .env TOKEN"),
        (["set", f"TOKEN={CANARY}", ".env"], "dorky set .env TOKEN"),
        (["set", f"TOKEN={CANARY}"], "dorky set --help"),
    ],
)
def test_set_takes_no_value_as_an_argument(secret: Machine, words: list[str], hint: str) -> None:
    said = secret(*words, code=2)
    assert said.hint.startswith(hint)
    assert CANARY not in said.err
    assert secret("get", ".env", "TOKEN").out == f"{CANARY}\n"


def test_set_asks_on_a_terminal_unseen(secret: Machine, terminal: Terminal) -> None:
    shown = terminal(secret, "set", ".env", "TOKEN", until="TOKEN", typed="typed-value\n")
    assert "TOKEN in .env: " in shown.text
    assert "typed-value" not in shown.text
    assert secret("get", ".env", "TOKEN").out == "typed-value\n"
    shown = terminal(secret, "set", ".env", "TOKEN", until="TOKEN", typed="\n")
    assert "no value was given" in shown.text
    assert secret("get", ".env", "TOKEN").out == "typed-value\n"


def test_unset(secret: Machine) -> None:
    assert secret("unset", ".env", "PORT").out == "Took PORT out of .env, and staged it.\n"
    assert secret.read(".env") == f"# keys\nTOKEN={CANARY}\n".encode()
    assert secret("unset", ".env", "PORT", code=4).error == ".env has no PORT"
    assert secret("unset", ".env", "TOKEN", "--json").json["key"] == "TOKEN"


def test_git_is_told(secret: Machine) -> None:
    subprocess.run(["git", "init", "-q", secret.project], check=True)
    said = piped(secret, b"1\n", "set", "new.env", "A")
    assert said.out == "Set A in new.env, which is new, and staged it.\n"
    assert said.err == "Told git to ignore 1 file (in .gitignore)\n"


# --- edit -----------------------------------------------------------------------------------


@pytest.fixture
def memory(secret: Machine, tmp_path: Path) -> Path:
    made = tmp_path / "memory"
    made.mkdir()
    secret.env["XDG_RUNTIME_DIR"] = str(made)
    return made


def test_edit(secret: Machine, memory: Path) -> None:
    secret.env["EDITOR"] = "sed -i s/80/81/"
    assert secret("edit", ".env").out == "Saved .env, and staged it.\n"
    assert secret("edit", ".env").out == ".env was not changed.\n"
    assert secret("get", ".env", "PORT").out == "81\n"
    secret.env["VISUAL"] = "sh -c 'printf A=1 > \"$1\"' sh"
    assert secret("edit", "new.env", "--json").json["what"] == "added"
    assert secret.read("new.env") == b"A=1"
    assert list(memory.iterdir()) == []


def test_edit_with_an_editor_that_fails(secret: Machine, memory: Path) -> None:
    for editor, code in (("false", 1), ("sh -c 'kill -9 $$'", 137)):
        secret.env["EDITOR"] = editor
        said = secret("edit", ".env", code=5)
        assert said.error == f"The editor ended with exit code {code}: nothing was changed"
    secret.env["EDITOR"] = "no-such-editor --wait"
    said = secret("edit", ".env", code=4)
    assert said.error == "no-such-editor can't be run: not found"
    secret.env["EDITOR"] = "sh 'x"
    assert "quotes" in secret("edit", ".env", code=2).error
    assert list(memory.iterdir()) == []


def test_edit_without_an_editor(secret: Machine) -> None:
    with mock.patch.dict(os.environ):
        for each in ("VISUAL", "EDITOR"):
            os.environ.pop(each, None)
        assert secret("edit", ".env", code=2).error == "no editor is named"


def test_edit_of_text_that_is_malformed(secret: Machine, memory: Path) -> None:
    secret.env["EDITOR"] = f"sh -c 'echo {CANARY} ! >> \"$1\"' sh"
    said = secret("edit", ".env", code=5)
    (draft,) = memory.glob("*/.env")
    assert said.error == (
        f"What you wrote for .env was not saved but kept in {draft}: "
        ".env can't be read as dotenv: line 4 is not NAME=value"
    )
    assert CANARY in draft.read_text()
    assert "80" in secret("get", ".env", "PORT").out


_EDITOR = """
import pathlib, sys
path = pathlib.Path(sys.argv[1])
first = "first" not in path.read_text()
path.write_text("first time !" if first else "A=second\\n")
"""


def test_edit_opens_it_again(secret: Machine, memory: Path, terminal: Terminal) -> None:
    script = secret.home / "editor.py"
    script.write_text(_EDITOR)
    editor = f"{sys.executable} {script}"
    shown = terminal(secret, "edit", ".env", until="gives up", typed="n\n", EDITOR=editor)
    assert "line 1 is not NAME=value" in shown.text
    assert shown.code == 5
    (draft,) = memory.glob("*/.env")
    assert str(draft) in shown.text.replace("\r\n", "")
    shown = terminal(secret, "edit", ".env", until="gives up", typed="\n", EDITOR=editor)
    assert "Saved .env" in shown.text
    assert secret.read(".env") == b"A=second\n"


_WAITS = """
import pathlib, signal, sys, time
got = []
signal.signal(signal.SIGINT, lambda *_: got.append(1))
print("open", flush=True)
while not got:
    time.sleep(0.01)
pathlib.Path(sys.argv[1]).write_text("A=interrupted\\n")
"""


def test_control_c_belongs_to_the_editor(secret: Machine, memory: Path, terminal: Terminal) -> None:
    script = secret.home / "editor.py"
    script.write_text(_WAITS)
    shown = terminal(
        secret, "edit", ".env", until="open", typed="\x03", EDITOR=f"{sys.executable} {script}"
    )
    assert "Saved .env" in shown.text
    assert secret.read(".env") == b"A=interrupted\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_when_edit_is_ended(
    secret: Machine, memory: Path, number: signal.Signals
) -> None:
    with (
        secret.here(),
        subprocess.Popen(
            [sys.executable, "-m", "dorky", "edit", ".env"],
            env={**os.environ, "EDITOR": "sh -c 'echo open; exec sleep 60'"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        assert len(list(memory.iterdir())) == 1
        process.send_signal(number)
        _, err = process.communicate()
    assert f"exit code {128 + number}" in err.decode()
    assert list(memory.iterdir()) == []


# --- export ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("dotenv", f"TOKEN={CANARY}\n"),
        ("shell", f"export TOKEN='{CANARY}'\n"),
        ("json", json.dumps({"TOKEN": CANARY}, indent=2) + "\n"),
        ("yaml", f'"TOKEN": "{CANARY}"\n'),
        ("docker", f"TOKEN={CANARY}\n"),
    ],
)
def test_export(secret: Machine, form: str, text: str) -> None:
    assert secret("export", ".env", "-f", form, "--only", "TOKEN").out == text


def test_export_for_github(secret: Machine) -> None:
    name, value, end = secret("export", ".env", "-f", "github", "--only", "PORT").out.splitlines()
    assert name.startswith("PORT<<")
    assert (value, end) == ("80", name.removeprefix("PORT<<"))


def test_export_of_what_can_not_be(secret: Machine) -> None:
    secret.write("x.env", f"A='{CANARY}\n'\n")
    said = secret("export", "x.env", "-f", "docker", code=2)
    assert CANARY not in said.err
    assert secret("export", "x.env", "-f", "nothing", code=2).error
    assert secret("export", ".env", "--only", "NO", code=4).error == ".env has no NO"


# --- secrecy --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        *(
            ["set", ".env", "A"],
            ["unset", ".env", "TOKEN"],
            ["edit", ".env"],
            ["get", ".env", "NO"],
        ),
        *(["set", "bad.env", "A"], ["unset", "bad.env", "A"], ["get", "bad.env"]),
        *(["run", "-f", "bad.env", "true"], ["run", "-f", "bad.json", "true"]),
        *(["export", "bad.env"], ["export", "bad.json"], ["get", "bad.yaml"], ["get", "bad.toml"]),
        *(["set", ".env", "A.B C"], ["set", "flat.json", "A.B"], ["set", ".env", "TOKEN.x"]),
        *(["run", "--only", "NO", "true"], ["run", "no-such-command"], ["get", "value.bin"]),
        *(["run", "-f", "odd.env", "true"], ["export", "odd.env"]),
    ],
)
def test_values_show_only_where_they_are_asked_for(secret: Machine, words: list[str]) -> None:
    for each in ("bad.env", "bad.json", "bad.yaml", "bad.toml"):
        secret.write(each, f'{CANARY} !\n"{CANARY}: [\n')
    secret.write("flat.json", json.dumps({"A": CANARY}))
    secret.write("odd.env", f"'{CANARY}")
    secret.write("value.bin", CANARY)
    secret.env["EDITOR"] = f"sh -c 'echo B={CANARY}-2 >> \"$1\"' sh"
    data = io.TextIOWrapper(io.BytesIO(f"{CANARY}\0".encode()))
    with mock.patch.object(sys, "stdin", data):
        said: Any = run(secret, *words, "-vv") if words[0] != "run" else run(secret, "-vv", *words)
    assert CANARY not in said.out + said.err


def run(machine: Machine, *words: str) -> Said:
    """A command with its traceback, which `Machine.run` would not have."""
    with mock.patch("traceback.print_exception", _print):
        return machine.run(*words)


def _print(error: BaseException) -> None:
    import traceback

    text = "".join(traceback.format_exception(error))
    sys.stderr.write(text.replace("Traceback", "traceback"))
