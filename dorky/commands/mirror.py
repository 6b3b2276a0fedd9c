"""Mirror: copy a repository to another place as it is stored, and check the copy on the way."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from dorky import errors, files, temporary
from dorky.config import Config, Plain
from dorky.drivers import open_driver
from dorky.drivers.base import Blob
from dorky.keys import age
from dorky.progress import SILENT, Progress
from dorky.project import ORIGIN, Project
from dorky.remote import mirror as mirrors
from dorky.remote import root as roots
from dorky.remote.listing import Moved
from dorky.remote.mirror import File, State
from dorky.remote.root import KEY, PACKS, TABLES, Remote
from dorky.results import Mirror

_COPY = "copy"
"""What the settings of a copy call the target; the source is their origin."""
_OPTIONS = ("profile", "region", "endpoint", "service_account")
_PINS = ("id", "fingerprint", "team", "unencrypted")
_ATTEMPTS = 10
_NO_KEY = (errors.NoKey, errors.IdentityMissing, errors.IdentityLost)


class _Place(NamedTuple):
    """The source or the target.

    Attributes:
        name: Its name in `.dorkyrc`; empty if it was given by its URL.
        url: Its URL.
        options: Its settings.
    """

    name: str
    url: str
    options: dict[str, Plain]


class _Work(NamedTuple):
    """Both places, opened.

    Attributes:
        project: The project whose remotes may be named.
        own: The project, without a worktree, that both are remotes of meanwhile.
        source: The source.
        target: The target.
        named: How the target was given.
    """

    project: Project | None
    own: Project
    source: Remote
    target: Remote
    named: _Place


class _Plan(NamedTuple):
    """The state to copy, and what the target lacks of it.

    Attributes:
        state: The state of the source.
        held: The root of the target; None if there is none.
        copied: The roots that were copied to the target before.
        lacking: The files that the target lacks.
    """

    state: State
    held: Blob | None
    copied: tuple[str, ...]
    lacking: list[File]

    @property
    def same(self) -> bool:
        """Return whether the target has the source's root already."""
        return self.held is not None and self.held.data == self.state.data


def mirror(
    project: Project | None,
    source: str,
    target: str,
    *,
    keyless: bool = False,
    read_data: bool = False,
    dry_run: bool = False,
    accept_rewind: bool = False,
    progress: Progress = SILENT,
    ask: age.Ask = age.nobody,
) -> Mirror:
    """Copy a repository's packs, tables and root to another place, as they are stored.

    An interrupted copy goes on with what is missing. A source that moves on meanwhile is followed.

    Arguments, results and errors are those of `Repository.mirror`; ``project``, if there is one, is
    the one whose remotes may be named, and its state stays as it is.
    """
    places = _place(project, source), _place(project, target)
    with _opened(project, *places, progress, ask) as work:
        work.source.accept_rewind = accept_rewind
        sent: list[File] = []
        for left in reversed(range(_ATTEMPTS)):
            try:
                first = left == _ATTEMPTS - 1
                plan = _plan(work, keyless=keyless, read_data=read_data and first)
                if dry_run:
                    return _report(work, plan, plan.lacking)
                _check_writable(work, plan)
                _copy(work, plan)
                sent += plan.lacking
                if left and _has_moved(work, plan.state):
                    continue
            except Moved:
                continue
            if not plan.same:
                expected = plan.held.version if plan.held else None
                mirrors.put_root(plan.state, work.target.driver, expected, plan.copied)
            return _report(work, plan, sent, done=True)
    raise errors.ServiceUnavailableError(work.source.url, "it keeps changing")


# --- the places -----------------------------------------------------------------------------


def _place(project: Project | None, given: str) -> _Place:
    """Return the place that a URL, a path or the name of a remote stands for.

    Raises:
        NoRemote: It is a name, and there is no such remote.
        NotAllowed: `.dorkyrc` chooses a profile or a server that the user has not allowed.
    """
    if project and given in project.config.remotes():
        options: dict[str, Plain] = {
            key: value
            for key, value in project.config.driver_options(given).items()
            if key in _OPTIONS
        }
        if project.config.single_writer(given):
            options["single_writer"] = True
        return _Place(given, project.driver(given).url, options)
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", given) and not Path(given).exists():
        raise errors.NoRemote(given)
    path = "" if "://" in given else str(files.expanded(given).absolute())
    open_driver(given, {})  # refuses what is no URL
    return _Place("", open_driver(path or given, {}).url, {})


def _check_apart(project: Project | None, source: str, target: str) -> None:
    """Refuse a copy of a place into itself, or into the project.

    Raises:
        UsageError: One lies in the other.
    """
    first, second = _whereabouts(source), _whereabouts(target)
    if first == second:
        raise errors.UsageError(f"{target} is the place that is to be copied")
    for outer, inner in ((first, second), (second, first)):
        if inner.startswith(f"{outer.rstrip('/')}/"):
            raise errors.UsageError(f"one of {source} and {target} lies in the other")
    if project and second.startswith("/") and Path(second).is_relative_to(project.root.resolve()):
        raise errors.UsageError(f"{target} lies in the project, and would be staged with it")


def _whereabouts(url: str) -> str:
    """Return what tells a place from others: for a directory its real path."""
    place = urlsplit(url)
    return str(Path(unquote(place.path)).resolve()) if place.scheme == "file" else url


@contextlib.contextmanager
def _opened(
    project: Project | None, first: _Place, second: _Place, progress: Progress, ask: age.Ask
) -> Iterator[_Work]:
    """Open both places, for a while, in a project of its own without a worktree."""
    _check_apart(project, first.url, second.url)
    settings = {**_settings(ORIGIN, first), **_settings(_COPY, second)}
    environment = project.config.environment if project else None
    config = Config(None, flags={**settings, **_pins(project, first)}, environment=environment)
    with (
        temporary.directory() as state,
        Project(None, config=config, state=state, progress=progress, ask=ask) as own,
    ):
        own.set_up()
        yield _Work(project, own, own.remote(ORIGIN), own.remote(_COPY), second)


def _settings(name: str, place: _Place) -> dict[str, Plain]:
    return {
        f"remotes.{name}.{key}": value for key, value in {"url": place.url, **place.options}.items()
    }


def _pins(project: Project | None, source: _Place) -> dict[str, Plain]:
    """Return what the source must match: the pins of the project, if it is the project's."""
    if project is None or not source.name:
        return {"repository.unencrypted": True}
    keys = (f"repository.{name}" for name in _PINS)
    return {key: value for key in keys if (value := project.config.get(key)) is not None}


# --- the steps ------------------------------------------------------------------------------


def _plan(work: _Work, *, keyless: bool, read_data: bool) -> _Plan:
    """Read both places, and find out what is to be copied.

    Raises:
        Moved: The source moved on while it was read.
    """
    source, target = work.source, work.target.driver
    state = mirrors.stored(source.driver) if keyless else _listed(work)
    held = mirrors.root_of(target)
    copied = mirrors.copied_to(target)
    mirrors.check_target(state, held, source, target, copied)
    lacking = mirrors.missing(state.files, target, read=read_data, progress=work.own.progress)
    return _Plan(state, held, copied, lacking)


def _listed(work: _Work) -> State:
    try:
        with contextlib.suppress(errors.MissingPack, errors.CorruptTable):
            return mirrors.listed(work.source)
        # It read what a root listed that was replaced meanwhile, or that is really gone.
        return mirrors.listed(work.source)
    except _NO_KEY as error:
        error.facts["keyless"] = True
        raise
    except errors.Rewound as error:
        error.facts["copying"] = True
        raise


def _copy(work: _Work, plan: _Plan) -> None:
    """Copy what the target lacks.

    Raises:
        Moved: The source moved on meanwhile.
        MissingPack: The source's root lists a pack that is gone.
        CorruptTable: The same for a table.
    """
    try:
        mirrors.copy(work.source.driver, work.target.driver, plan.lacking, work.own.progress)
    except Moved as moved:
        if plan.state.root is None or _has_moved(work, plan.state):
            raise
        (key,) = moved.args
        if key.startswith(PACKS):
            name = key.removeprefix(PACKS)
            raise errors.MissingPack(name, work.source.url) from None
        raise errors.CorruptTable(key.removeprefix(TABLES), "it is gone") from None


def _has_moved(work: _Work, state: State) -> bool:
    """Return whether the source has another root by now."""
    answer = work.source.driver.get(KEY, unless=state.version, limit=roots.LIMIT)
    return answer is not None


def _check_writable(work: _Work, plan: _Plan) -> None:
    """Check, before much is copied, that the target may be written to, and honours swaps.

    Raises:
        RemoteNotNamed: Only `.dorkyrc` names it, and it is empty.
        SwapsIgnored: It ignores conditional writes, and nothing says that there is one writer.
    """
    if plan.held is None:
        _check_named(work)
    if plan.same or work.own.database.get(f"remote.{_COPY}.swaps"):
        return
    try:
        work.own.check_swaps(work.target)
    except (errors.SwapsIgnored, errors.SwapsUnsupported) as error:
        error.facts["copying"] = work.named.name or work.target.url
        raise


def _check_named(work: _Work) -> None:
    project, name = work.project, work.named.name
    if project is None or not name or (project.is_set_up and project.is_named(name)):
        return
    before = project.moved_from(name) if project.is_set_up else ""
    told = f" (before it was {before})" if before else ""
    raise errors.RemoteNotNamed(project.config.url(name), told, copying=name)


def _report(work: _Work, plan: _Plan, sent: Sequence[File], *, done: bool = False) -> Mirror:
    copied = {file.key: file.size for file in sent}
    root, state = plan.state.root, plan.state
    return Mirror(
        source=work.source.url,
        target=work.target.url,
        repository=state.header.repository,
        generation=root.generation if root else None,
        time=root.time if root else None,
        packs=sum(key.startswith(PACKS) for key in copied),
        tables=sum(key.startswith(TABLES) for key in copied),
        size=sum(copied.values()),
        held=len(state.files) - len(plan.lacking),
        root=not plan.same,
        done=done,
    )
