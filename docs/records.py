"""The page docs/reference/json.md: what ``--json`` prints, from the records in `dorky.results`."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from datetime import datetime
from inspect import cleandoc
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from dorky import results
from dorky.cli.main import everything
from dorky.client import FileInfo

ANSWERS: dict[str, Any] = {
    "init": results.Initialized,
    "clone": results.PullResult,
    "stage": results.Staged,
    "unstage": results.Staged,
    "rm": results.Staged,
    "status": results.Status | results.PreCommit,
    "commit": results.LogEntry,
    "restore": results.CheckedOut | results.Staged,
    "checkout": results.CheckedOut,
    "log": list[results.LogEntry],
    "show": results.LogEntry,
    "diff": results.Diff,
    "ls": list[results.FileEntry],
    "push": results.PushResult,
    "fetch": results.FetchResult,
    "pull": results.PullResult,
    "sync": results.Synced,
    "upload": list[FileInfo],
    "stat": FileInfo,
    "save": results.Saved,
    "get": results.Values,
    "set": results.Edited,
    "unset": results.Edited,
    "edit": results.Edited,
    "rotate": results.Rotation,
    "resolve": results.Resolved,
    "merge": results.LogEntry | results.Undone,
    "undo": results.Undone,
    "fsck": results.FsckReport | results.RepairReport,
    "gc": results.GCReport | results.RemoteGCReport,
    "purge": results.PurgePlan,
    "mirror": results.Mirror,
    "sign": results.SignResult,
    "verify": list[results.Verification],
    "signatures": list[results.Signature],
    "attest": results.SignResult,
    "attestations": list[results.Attestation],
    "sbom attach": results.SignResult,
    "sbom get": results.Sbom,
    "sbom list": list[results.Sbom],
    "bundle import": results.SignResult,
    "doctor": list[results.Check],
    "trust": results.Trust,
    "destroy": results.DestroyPlan,
    "config get": results.SettingValue,
    "config list": list[results.SettingValue] | list[results.SettingInfo],
    "remote list": dict[str, str],
    "bucket create": results.BucketInfo,
    "bucket list": list[results.BucketInfo],
    "bucket delete": results.BucketInfo,
    "bucket validate": results.BucketReport,
    "python save": results.PythonTransfer,
    "python push": results.PythonTransfer,
    "python index": results.PythonIndex,
    "python list": list[results.PythonProject],
    "python show": results.PythonProject,
    "python yank": results.PythonProject,
    "python remove": results.PythonRemoval,
    "python status": results.PythonProject,
    "cache stats": results.CacheStats,
    "cache clear": results.CacheStats,
    "python token": results.PythonToken,
    "op log": list[results.OperationEntry],
    "key gen": results.Key | results.Generated | results.SigningKey,
    "key show": list[results.Key],
    "key list": list[results.Key],
    "remote repair": results.RootRepair,
    "team list": results.Team,
    "team log": list[results.TeamChange],
    "team exposed": results.Exposures,
    "team set-role": results.MemberInfo,
    "team add": results.MemberInfo,
    "team join": results.JoinRequest,
    "team remove": results.Rotation,
    "group add": results.GroupChange,
    "group remove": results.GroupChange,
    "group list": list[results.GroupInfo],
    "group members": results.GroupInfo | results.Rotation,
}
"""The result of each command that has ``--json``; a test runs the commands and compares."""

NOTES = {
    "restore": "`Staged` with `--staged`",
    "merge": "`Undone` with `--abort`",
    "fsck": "`RepairReport` with `--repair`",
    "gc": "`RemoteGCReport` with `--remote`",
    "destroy": "printed before anything is deleted",
    "bucket delete": "printed before it is deleted",
    "cache clear": "how it was before",
    "config list": "`SettingInfo` with `--all`",
    "remote list": "each remote's name and URL",
    "key gen": "`Generated` with `--ci`",
    "group members": "`Rotation` with `--remove`",
}
_SIMPLE = {str: "string", int: "number", bool: "boolean", datetime: "time", type(None): "null"}
_SIMPLE[Any] = "value"

INTRODUCTION = """\
With `--json`, standard output holds one JSON document: the command's result, or its error.
Nothing else is printed there. Questions, notes, progress bars and the error's words go to
standard error, so a log stays readable. A script decides by the exit code, then reads standard
output.

- A path is a string, relative to the project's root. A name that is not UTF-8 has lone surrogates
  (`\\udcff`), which Python's `os.fsencode` turns back into the bytes.
- A time is a string such as `2026-11-30T09:00:00Z`. A size is in bytes. A mode is octal, in a
  string.
- Unprintable characters are escaped, so that a terminal obeys none of them.
- Every field is always there. A later version may add fields: ignore those that you don't know.
"""

FAILED = """\
If a command fails before it has printed its result, it prints an object with the one key `error`.
That holds for a mistake in the command line, an interruption and a bug in dorky, too. The exit
code is the same as without `--json`. The codes are the headings of [errors](errors.md); there are
two more: `interrupted` (exit 130) and `bug` (exit 70).

```json
{
  "error": {
    "code": "not-a-repository",
    "message": "Not a dorky repository (or any parent directory): /home/ana/app",
    "hint": "dorky init, or dorky clone URL",
    "exit_code": 3
  }
}
```

Some commands print their result and fail all the same: `fsck` if it finds damage, `pull` and
`sync` if there are conflicts, `destroy` if nobody confirms it. Standard output then holds the
result. The exit code tells, and standard error has the message. `doctor`, and `diff` and `status`
with `--exit-code`, exit with 1 to answer a question: that is no error."""


def page(note: str) -> str:
    """The page: the error object, the result of each command, and all the records."""
    found = list(_with_json(everything(), ()))
    if missing := set(found) ^ ANSWERS.keys():
        raise SystemExit(f"docs/records.py: say what --json prints: {', '.join(sorted(missing))}")
    rows = "\n".join(
        f"| [`{name}`](cli.md#dorky-{name.replace(' ', '-')}) | {_type(ANSWERS[name])}"
        f"{f' ({NOTES[name]})' if name in NOTES else ''} |"
        for name in found
    )
    records = list(_records(ANSWERS[name] for name in found))
    parts = [
        f"{note}\n\n# JSON",
        INTRODUCTION.strip(),
        "## Errors",
        FAILED,
        _fields(results.Failure),
        "## Results",
        f"| command | result |\n| --- | --- |\n{rows}",
        "## Records",
        *(f"### {record.__name__}\n\n{_about(record)}\n\n{_fields(record)}" for record in records),
    ]
    return "\n\n".join(parts) + "\n"


def _with_json(command: Any, words: tuple[str, ...]) -> Iterator[str]:
    if any("--json" in option.opts for option in command.params):
        yield " ".join(words)
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from _with_json(child, (*words, name))


def _records(kinds: Any) -> Iterator[type[msgspec.Struct]]:
    """The records in some types, each once, those that hold others first."""
    seen: dict[type, None] = {results.Remedy: None}  # in words, in JSON
    todo = list(kinds)
    while todo:
        kind = todo.pop(0)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if kind not in seen:
                seen[kind] = None
                yield kind
                todo[:0] = get_type_hints(kind).values()
        else:
            todo[:0] = get_args(kind)


def _about(record: type[msgspec.Struct]) -> str:
    return " ".join(cleandoc(record.__doc__ or "").partition("\n\nAttributes:")[0].split())


def _fields(record: type[msgspec.Struct]) -> str:
    meanings = _meanings(record)
    hints = get_type_hints(record)
    rows = [
        f"| `{field.name}` | {_type(hints[field.name])} | {meanings[field.name]} |"
        for field in msgspec.structs.fields(record)
    ]
    return "\n".join(["| field | type | meaning |", "| --- | --- | --- |", *rows])


def _meanings(record: type[msgspec.Struct]) -> dict[str, str]:
    """The meaning of each field, from the docstring's section on attributes."""
    section = cleandoc(record.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, re.MULTILINE)
    meanings = {name: " ".join(text.split()).replace("``", "`") for name, text in found}
    names = {field.name for field in msgspec.structs.fields(record)}
    if meanings.keys() != names:
        raise SystemExit(f"{record.__name__}: describe {sorted(meanings.keys() ^ names)}")
    return {
        name: text.replace("|", "\\|").replace("None", "null") for name, text in meanings.items()
    }


def _type(kind: Any) -> str:
    """A type in words, with links to the records."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        # A remedy is in words.
        return " or ".join(_type(kind) for kind in arguments if kind is not results.Remedy)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in {list, tuple}:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"object of {_type(arguments[1])}s"
    return f"[{kind.__name__}](#{kind.__name__.lower()})"
