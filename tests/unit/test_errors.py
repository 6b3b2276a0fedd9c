"""The error tree: every class says what happened in one line, and everybody raises it fully."""

from __future__ import annotations

import ast
import builtins
import inspect
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import dorky
from dorky import errors
from dorky.cli import hints
from dorky.errors import DorkyError

PACKAGE = Path(dorky.__file__).parent

EXITS = {
    errors.NothingToDo: 1,
    errors.BadRequestError: 2,
    errors.SetupError: 3,
    errors.NotFoundError: 4,
    errors.ConflictError: 5,
    errors.AccessError: 6,
    errors.IntegrityError: 7,
    errors.Unavailable: 8,
}


def descendants(base: type[DorkyError]) -> Iterator[type[DorkyError]]:
    for each in base.__subclasses__():
        if each.__module__ == errors.__name__:
            yield each
            yield from descendants(each)


CLASSES = sorted(descendants(DorkyError), key=lambda each: each.__name__)
every_class = pytest.mark.parametrize("each", CLASSES, ids=lambda each: each.__name__)


def summary(each: type[DorkyError]) -> str:
    assert each.__doc__
    return inspect.cleandoc(each.__doc__).split("\n\n")[0]


def arguments(*templates: str) -> int:
    """How many arguments templates take."""
    fields = [name for text in templates for _, name, _, _ in string.Formatter().parse(text)]
    return max((int(name) + 1 for name in fields if name is not None), default=0)


def sample(each: type[DorkyError], value: str = "ARG") -> DorkyError:
    count = arguments(summary(each), hints.usual(each))
    return each(*(f"{value}{number}" for number in range(count)))


# --- the tree -------------------------------------------------------------------------------


def test_the_branches_and_their_exit_codes() -> None:
    assert set(DorkyError.__subclasses__()) == set(EXITS)
    assert DorkyError.exit_code == 70
    for branch, code in EXITS.items():
        assert branch.exit_code == code
        # A leaf never strays from its branch.
        assert {each.exit_code for each in descendants(branch)} <= {code}


def test_names_are_stable_and_unique() -> None:
    codes = [sample(each).code for each in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(set(code) <= set(string.ascii_lowercase + "-") for code in codes)
    assert errors.BadURL("x", "y").code == "bad-url"
    assert errors.NoRepositoryAtURL("x").code == "no-repository-at-url"
    assert errors.CorruptObject("x", "y").code == "corrupt-object"


@every_class
def test_messages_are_one_line_without_a_full_stop(each: type[DorkyError]) -> None:
    error = sample(each)
    assert error.message == str(error)
    assert error.message
    assert "\n" not in error.message + hints.hint(error)
    assert not error.message.endswith(".")
    assert not hints.hint(error).endswith(".")
    assert "{" not in error.message + hints.hint(error)
    # Nothing that was given is swallowed.
    given = arguments(summary(each), hints.usual(each))
    assert all(f"ARG{number}" in error.message + hints.hint(error) for number in range(given))


@every_class
def test_arguments_are_not_templates(each: type[DorkyError]) -> None:
    shown = sample(each, "{0.__class__}{}{x}%s")
    assert shown.message
    if arguments(summary(each)):
        assert "{0.__class__}{}{x}%s" in shown.message


def test_the_command_line_gives_its_own_errors_a_hint_or_takes_it_away() -> None:
    assert hints.hint(errors.EmptyMessage()) == 'dorky commit -m "say what changed"'
    assert hints.hint(errors.EmptyMessage(hint="do {0}")) == "do {0}"
    assert hints.hint(errors.EmptyMessage(hint="")) == ""
    assert hints.hint(errors.Rejected("origin"))
    assert hints.hint(errors.NotFoundError("x")) == ""


def test_what_a_retry_needs_to_know() -> None:
    assert errors.ServerBusy("x", "y", retry_after=3.0).retry_after == 3.0
    assert errors.ServerBusy("x", "y").retry_after is None
    assert errors.Unreachable("x", "y", lasting=True).lasting
    assert not errors.Unreachable("x", "y").lasting


def test_each_error_says_what_a_server_would() -> None:
    """Every status that a caller tells apart is a class of its own."""
    classes = (
        *(errors.BadRequestError, errors.UnauthorizedError, errors.ForbiddenError),
        *(errors.NotFoundError, errors.ConflictError, errors.PreconditionFailed),
        *(errors.RateLimitedError, errors.InternalServerError, errors.ServiceUnavailableError),
    )
    statuses = [sample(each).status_code for each in classes]
    assert statuses == [400, 401, 403, 404, 409, 412, 429, 500, 503]
    assert issubclass(errors.PreconditionFailed, errors.ConflictError)
    assert not issubclass(errors.RateLimitedError, errors.ServiceUnavailableError)
    assert sample(errors.NoKey).status_code == 403
    assert sample(errors.IdentityMissing).status_code == 401
    assert sample(errors.CorruptObject).status_code is None
    assert errors.RateLimitedError("x", "y", retry_after=2.0).retryable
    assert not errors.Unreachable("x", "y", lasting=True).retryable
    with pytest.raises(builtins.TimeoutError):
        raise errors.TimeoutError("x", "y")


# --- those who raise them -------------------------------------------------------------------


def raised() -> Iterator[tuple[str, type[DorkyError], ast.Call | None]]:
    """Every mention of an error that is made (a call) or raised as it is (None)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            call = node if isinstance(node, ast.Call) else None
            name = node.func if call else node.exc if isinstance(node, ast.Raise) else None
            if (
                isinstance(name, ast.Attribute)
                and isinstance(name.value, ast.Name)
                and name.value.id == "errors"
            ):
                found = getattr(errors, name.attr)
                if isinstance(found, type) and issubclass(found, DorkyError):
                    yield f"{path.relative_to(PACKAGE)}:{name.lineno}", found, call


# Arguments that the choice of a hint takes, more than the message and the usual hint do.
_USED = {errors.NotAllowed: 3}


def test_everybody_gives_an_error_what_it_says() -> None:
    seen = 0
    for where, each, call in raised():
        seen += 1
        needed = arguments(summary(each), hints.usual(each))
        given = len(call.args) if call else 0
        starred = call is not None and any(isinstance(arg, ast.Starred) for arg in call.args)
        assert starred or given >= needed, f"{where}: {each.__name__} takes {needed} arguments"
        assert starred or given <= max(needed, _USED.get(each, 0)), where
    assert seen > 100


def test_no_leaf_of_the_tree_is_dead() -> None:
    texts = [path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "errors.py"]
    for each in CLASSES:
        leaf = not each.__subclasses__()
        assert not leaf or any(f"errors.{each.__name__}" in text for text in texts), each.__name__
