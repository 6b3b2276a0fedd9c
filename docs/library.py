"""The page docs/reference/library.md: the client and its records, from their docstrings."""

from __future__ import annotations

import inspect
import re
from inspect import cleandoc
from typing import Any

import asynchronous
import msgspec

import dorky
from dorky import AsyncBatch, AsyncDorkyClient, AsyncFile, AsyncItems, Batch, DorkyClient, errors

_SECTION = re.compile(
    r"^(Args|Returns|Yields|Raises|Attributes):\n((?:(?:    .*)?\n?)+)", re.MULTILINE
)
_ITEM = re.compile(r"^    (\w+): (.*(?:\n        .*)*)", re.MULTILINE)
_TITLES = {"Returns": "Returns", "Yields": "Yields", "Raises": "Raises"}


def page(note: str) -> str:
    """The page: the client's methods in their order, then the records."""
    records = [
        getattr(dorky, name)
        for name in dorky.__all__
        if isinstance(getattr(dorky, name), type)
        and issubclass(getattr(dorky, name), msgspec.Struct)
    ]
    parts = [
        f"{note}\n\n# Library",
        "What `import dorky` offers to programs. The [guide](../guides/library.md) shows how to "
        "use it; the errors are in [their own page](errors.md).",
        f"## DorkyClient\n\n```python\n{_signature('DorkyClient', DorkyClient)}\n```",
        _prose(DorkyClient.__doc__ or ""),
        *(_method("client", name, member) for name, member in _methods(DorkyClient)),
        f"## Batch\n\n{_prose(Batch.__doc__ or '')}",
        *(_method("batch", name, member) for name, member in _methods(Batch)),
        f"## AsyncDorkyClient\n\n{_prose(AsyncDorkyClient.__doc__ or '')}",
        _asynchronous(),
        *(
            f"## {each.__name__}\n\n{_prose(each.__doc__ or '')}"
            for each in (AsyncBatch, AsyncFile, AsyncItems)
        ),
        "## Progress bars",
        *(
            _method("dorky", name, getattr(dorky, name)).replace(f"dorky.{name}", name, 1)
            for name in ("tqdm_progress", "rich_progress")
        ),
        "## Records",
        *(f"### {each.__name__}\n\n{_prose(each.__doc__ or '')}" for each in records),
        "## ABSENT\n\nIn the place of a version: the path must hold no file yet.",
    ]
    return "\n\n".join(parts) + "\n"


def _asynchronous() -> str:
    """How each name of the blocking client is used in the asynchronous one."""
    uses = {
        "items": "`async for`",
        "open": "`async with`",
        "batch": "`async with`",
        **dict.fromkeys(("run", "upload", "upload_batch", "started"), "`await`"),
    }
    rows: dict[str, list[str]] = {}
    for name, how in asynchronous.CLIENT.items():
        rows.setdefault(uses.get(how, "as it is"), []).append(f"`{name}`")
    return "\n".join(
        [
            "Arguments, results and errors are `DorkyClient`'s; `sync` is the blocking client.",
            "",
            "| use | names |",
            "| --- | --- |",
            *(f"| {use} | {', '.join(names)} |" for use, names in rows.items()),
        ]
    )


def _methods(of: type) -> list[tuple[str, Any]]:
    return [
        (name, member)
        for name, member in vars(of).items()
        if not name.startswith("_") and name != "get_metadata"
    ]


def _method(owner: str, name: str, member: Any) -> str:
    if isinstance(member, property):
        return f"### {name}\n\n{_prose(member.fget.__doc__ or '')}"
    function = member.__func__ if isinstance(member, classmethod) else member
    also = "\n\n`get_metadata` is the same." if name == "stat" else ""
    shown = _signature(f"{'DorkyClient' if function is not member else owner}.{name}", function)
    title = name if owner == "client" else f"{owner}.{name}"
    return f"### {title}\n\n```python\n{shown}\n```\n\n{_prose(function.__doc__ or '')}{also}"


def _signature(name: str, thing: Any) -> str:
    """A signature, one parameter a line if it is long."""
    found = inspect.signature(thing)
    parameters = [each for each in found.parameters.values() if each.name not in {"self", "cls"}]
    lines = []
    keyword = False
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and not keyword:
            lines.append("*")
            keyword = True
        text = f"{'**' if each.kind is each.VAR_KEYWORD else ''}{each.name}: {each.annotation}"
        if each.default is not each.empty:
            text += f" = {_default(each.default)}"
        lines.append(text)
    back = "" if inspect.isclass(thing) else f" -> {found.return_annotation}"
    flat = f"{name}({', '.join(lines)}){back}"
    return flat if len(flat) < 90 else f"{name}(\n    " + ",\n    ".join(lines) + f",\n){back}"


def _default(value: object) -> str:
    return "{}" if value == {} else repr(value)


def _prose(docstring: str) -> str:
    """A docstring as Markdown: its sections become lists."""
    text = cleandoc(docstring).replace("``", "`") + "\n"

    def section(found: re.Match[str]) -> str:
        items = _ITEM.findall(found[2])
        title = f"{_TITLES[found[1]]}:\n\n" if found[1] in _TITLES else ""
        if not items:
            return title.replace(":\n\n", ": ") + " ".join(found[2].split())
        rows = []
        for name, meaning in items:
            known = found[1] == "Raises" and hasattr(errors, name)
            link = f"[`{name}`](errors.md#{_kebab(name)})" if known else f"`{name}`"
            rows.append(f"- {link}: {' '.join(meaning.split())}")
        return "\n" + title + "\n".join(rows) + "\n\n"

    return re.sub(r"\n{3,}", "\n\n", _SECTION.sub(section, text)).strip()


def _kebab(name: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    return words.lower()
