"""Writing variables for their readers: shells, parsers, docker, GitHub's runner.

A value that a form can't express exactly is refused, never changed; and no message quotes a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from enum import Enum

from dorky import errors
from dorky.documents import dotenv, names

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DOTENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# bufio.MaxScanTokenSize of Go; a line with its end must be shorter.
_DOCKER_LINE = 64 * 1024 - 1
_YAML_KEY = 1000  # A key with its colon on the same line has at most 1024 characters.


class Form(Enum):
    """The form in which variables are written."""

    DOTENV = "dotenv"
    SHELL = "shell"
    JSON = "json"
    YAML = "yaml"
    DOCKER = "docker"
    GITHUB = "github"


def export(values: Mapping[str, str], form: Form) -> str:
    """Write variables so that the reader of a form gets exactly these values.

    Args:
        values: By name.
        form: `dotenv` for python-dotenv, node's dotenv, docker compose and bash; `shell` for any
            POSIX shell; `json` and `yaml` (1.1 and 1.2) for one object; `docker` for
            `docker run --env-file`; `github` to be appended to the file `$GITHUB_ENV` of a step.

    Raises:
        CantExport: The form can't express one of the names or values.
    """
    for name, value in values.items():
        reason = _unfit(name, value, form)
        if reason:
            raise errors.CantExport(ascii(names.shown(name)).strip("'"), form.value, reason)
    if form is Form.JSON:
        return json.dumps(dict(values), ensure_ascii=False, indent=2) + "\n"
    if form is Form.YAML and not values:
        return "{}\n"
    return "".join(_WRITERS[form](name, value) for name, value in values.items())


def masked(value: str) -> str:  # noqa: ARG001 - neither the value nor its length may show
    """Return the text that is shown in place of a value."""
    return names.HIDDEN


def _unfit(name: str, value: str, form: Form) -> str:
    """Return why a form can't express a variable; empty if it can."""
    if re.search("[\ud800-\udfff]", name + value):
        return "half of a surrogate pair is no text"
    if form is Form.JSON:
        return ""
    if form is Form.YAML:
        return "its name is too long" if len(_yaml_string(name)) > _YAML_KEY else ""
    if "\0" in value:
        return "no variable can hold a NUL character"
    return _REASONS[form](name, value)


def _unfit_dotenv(name: str, value: str) -> str:
    if not _DOTENV_NAME.fullmatch(name):
        return "its name is not one"
    return "" if dotenv.is_portable(value) else "the readers of .env files differ on its value"


def _unfit_shell(name: str, _: str) -> str:
    return "" if _NAME.fullmatch(name) else "its name is not one of a shell's variable"


def _unfit_docker(name: str, value: str) -> str:
    # docs.docker.com/reference/cli/docker/container/run (--env-file); pkg/kvfile of docker/cli.
    if not name or re.search(r"[\s=\0\ufeff]|\A#", name):
        return "its name is not one"
    if "\n" in value or value.endswith("\r"):
        return "its value has a line end, and an env-file has lines only"
    if re.fullmatch(r"'.*'|\".*\"", value, re.DOTALL):
        return "its value is in quotes, which some versions of docker take away"
    if len(f"{name}={value}".encode()) >= _DOCKER_LINE:
        return "its value is longer than a line of an env-file can be"
    return ""


def _unfit_github(name: str, value: str) -> str:
    # docs.github.com/actions/reference/workflow-commands-for-github-actions.
    if not _NAME.fullmatch(name):
        return "its name is not one"
    if name == "NODE_OPTIONS" or name.startswith(("GITHUB_", "RUNNER_")):
        return "the runner does not let it be set"
    if value.endswith("\r"):
        return "a runner on Windows takes the carriage return at its end away"
    return ""


def _dotenv(name: str, value: str) -> str:
    return f"{name}={dotenv.quoted(value)}\n"


def _shell(name: str, value: str) -> str:
    # Always quoted, unlike by shlex.quote: zsh replaces an unquoted `=ls` by that command's path.
    quoted = value.replace("'", "'\\''")
    return f"export {name}='{quoted}'\n"


def _yaml(name: str, value: str) -> str:
    return f"{_yaml_string(name)}: {_yaml_string(value)}\n"


def _yaml_string(text: str) -> str:
    """Return a string in double quotes: the only style that has an escape for everything."""
    return '"' + re.sub(r'["\\]|[^ -~]', _yaml_escaped, text) + '"'


def _yaml_escaped(found: re.Match[str]) -> str:
    char = found[0]
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    code = ord(char)
    if char == "\n":
        return "\\n"
    return f"\\x{code:02x}" if code < 0x100 else f"\\U{code:08x}"


def _docker(name: str, value: str) -> str:
    return f"{name}={value}\n"


def _github(name: str, value: str) -> str:
    # A value that could predict its delimiter would set variables of its own.
    import secrets

    delimiter = f"dorky_{secrets.token_hex(16)}"
    return f"{name}<<{delimiter}\n{value}\n{delimiter}\n"


_WRITERS: dict[Form, Callable[[str, str], str]] = {
    Form.DOTENV: _dotenv,
    Form.SHELL: _shell,
    Form.YAML: _yaml,
    Form.DOCKER: _docker,
    Form.GITHUB: _github,
}
_REASONS: dict[Form, Callable[[str, str], str]] = {
    Form.DOTENV: _unfit_dotenv,
    Form.SHELL: _unfit_shell,
    Form.DOCKER: _unfit_docker,
    Form.GITHUB: _unfit_github,
}
