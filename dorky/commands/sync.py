"""Transfers: push to the remote, and fetch and pull from it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import msgspec

from dorky import errors
from dorky.commands.checkout import (
    attached_head,
    carry_out,
    check_no_merge,
    plan_checkout,
    record_groups,
)
from dorky.commands.inspect import (
    PARTIAL,
    StrPath,
    fetch_missing,
    masked_entries,
    partial,
    repository_paths,
)
from dorky.commands.upstream import (
    ensure_set_up,
    fetch_root,
    first_root,
    record_followed,
    unfollowed_purges,
)
from dorky.drivers.base import check_writable
from dorky.format.model import Entry, ObjectId
from dorky.keys import roster
from dorky.merge import pending
from dorky.merge.commits import Merged, merge, unpushed, without_drops
from dorky.paths import shown
from dorky.project import ORIGIN, Project
from dorky.remote import fetch as remote_fetch
from dorky.remote import push as remote_push
from dorky.remote.journal import Journal
from dorky.remote.root import Remote, noted
from dorky.results import Change, FetchResult, PullResult, PushResult, Synced, Tombstone
from dorky.store import history, oplog, projection
from dorky.store.history import MAIN, Placed
from dorky.store.projection import View
from dorky.worktree import checkout, staging

if TYPE_CHECKING:
    from dorky.worktree.plan import Plan

_ROUNDS = 100


class _Chosen(NamedTuple):
    """The paths whose files a pull puts in place; without any, all files.

    Attributes:
        named: Those that this pull names.
        before: Those of earlier pulls.
    """

    named: Sequence[str]
    before: Sequence[str]


class Place(TypedDict):
    """The facts that a transfer reports of the remote's place (see `results.FetchResult`)."""

    moved: str
    fingerprint: str
    unencrypted: bool
    team: str
    admins: tuple[str, ...]


def push(project: Project, *, journal: Journal | None = None) -> PushResult:
    """Send the commits that the remote lacks, and move its ``main`` to the local one.

    Arguments, results and errors are those of `Repository.push`; ``journal`` has the packs that
    were uploaded for it already.
    """
    with project.locked():
        head = project.database.ref(MAIN)
        if head is None:
            raise errors.NoCommits
        check_no_merge(project)
        remote = project.remote()
        check_writable(remote.driver)
        moved = project.moved_from()
        _check_named(project, remote)
        if project.database.root(ORIGIN) is not None:
            _check_pin_first(project)
        if remote_push.lacks(remote, head):
            if remote.version is None:
                # The root says whether its place was probed already.
                with contextlib.suppress(errors.NoRepositoryAtURL):
                    remote_fetch.fetch(remote, project.progress)
            project.check_swaps(remote)
        send = functools.partial(
            remote_push.push,
            remote,
            functools.partial(first_root, project),
            head,
            project.progress,
            journal=journal,
        )
        try:
            try:
                done = send()
            except errors.MissingObject:
                from dorky.commands import cache

                if not cache.restore(project):
                    raise
                done = send()
        except errors.Rejected:
            raise errors.Rejected(ORIGIN, _news(project, head)) from None
        if done.lists:
            from dorky.commands import cache

            # The push is done, whether or not disk space can be saved.
            with contextlib.suppress(errors.DorkyError):
                cache.drop(project, done.lists)
        commits, _ = history.ahead_behind(project.store, head, done.old)
        return PushResult(
            remote=ORIGIN,
            url=remote.url,
            moved=moved,
            old=done.old,
            new=done.new,
            commits=commits,
            objects=done.objects,
            size=done.size,
            founded=done.founded,
            left=done.left,
            attestations=done.attestations,
        )


def _news(project: Project, head: ObjectId) -> str:
    """Return who has pushed what, for a user who has not pulled it yet."""
    theirs = project.database.ref(f"{ORIGIN}/{MAIN}")
    ours = {node.id for node in history.ancestors(project.store, [head])}
    heads = [theirs] if theirs else []
    new = history.ancestors(project.store, heads, stop=ours.__contains__)
    # By whose key, not by what the commit says of its author.
    names = project.team.names
    told = [
        f"{names.get(commit.signer, commit.author)}'s {history.subject(commit.message)!r}"
        f" ({commit.time:%Y-%m-%d %H:%M} UTC)"
        for _, commit in new
    ]
    return shown(told)


def _check_pin_first(project: Project) -> None:
    """Check first whether the remote has the key and the team of a newer `.dorkyrc`."""
    try:
        project.check_pin()
    except (errors.WrongKey, errors.TeamRewound):
        fetch_root(project)


def _check_named(project: Project, remote: Remote) -> None:
    """Refuse to write to a place that the user has not named, unless it holds the repository.

    Raises:
        RemoteNotNamed: Only `.dorkyrc` names the place, and it is empty.
    """
    if project.is_named():
        return
    try:
        remote_fetch.fetch(remote, project.progress)
    except (errors.NoRepositoryAtURL, errors.RootVanished, errors.NotMounted):
        before = project.moved_from()
        told = f" (before it was {before})" if before else ""
        url = project.config.url(ORIGIN)
        raise errors.RemoteNotNamed(url, told) from None
    project.settle()


def fetch(
    project: Project,
    paths: StrPath | Iterable[StrPath] = (),
    *,
    accept_rewind: bool = False,
    all_contents: bool = False,
) -> FetchResult:
    """Learn what the remote has, and who asks to join, without changing any file.

    Arguments, results and errors are those of `Repository.fetch`.
    """
    from dorky.commands import requests

    names = repository_paths(project, paths)
    if names and not all_contents:
        raise errors.OnlyContents
    done = refresh(project, accept_rewind=accept_rewind)
    # A member who may read need not be allowed to list.
    with contextlib.suppress(errors.AccessError):
        requests.waiting(project, project.remote())
    if not all_contents:
        return done
    return msgspec.structs.replace(done, contents=_fetch_contents(project, names))


def _fetch_contents(project: Project, names: Sequence[str]) -> int:
    """Fetch the contents of the files of both heads; return their size in bytes, as stored."""
    store = project.store
    entries: dict[str, list[Entry]] = {}
    for name in (MAIN, f"{ORIGIN}/{MAIN}"):
        trees = history.trees_of(store, project.database.ref(name))
        for path, entry in history.files_of(store, trees):
            entries.setdefault(path, []).append(entry)
    if names:
        chosen = staging.tracked(entries, names)
        entries = {path: entries[path] for path in chosen}
    wanted = checkout.needed(store, (entry for held in entries.values() for entry in held))
    missing = store.missing(wanted)
    places = store.locate(missing, remote=ORIGIN)
    fetch_missing(project, missing)
    return sum(at.length for at in places.values())


def refresh(project: Project, *, accept_rewind: bool = False) -> FetchResult:
    """Fetch, and return what the fetch brought."""
    with ensure_set_up(project):
        old = project.database.ref(f"{ORIGIN}/{MAIN}")
        told = _news_of_place(project)
        remote = fetch_root(project, accept_rewind=accept_rewind)
        new = project.database.ref(f"{ORIGIN}/{MAIN}")
        commits, _ = history.ahead_behind(project.store, new, old)
        newest = noted(project.database)
        return FetchResult(
            remote=ORIGIN,
            url=remote.url,
            old=old,
            new=new,
            commits=commits,
            generation=newest.generation if newest else 0,
            txid=newest.txid if newest else "",
            **told(),
        )


def _news_of_place(project: Project) -> Callable[[], Place]:
    """Return a function that reports, after a fetch, what is new about the remote's place."""
    moved, first = project.moved_from(), project.database.get("header") is None

    def told() -> Place:
        header = project.header if first else None
        fingerprint = project.vault.fingerprint if header else ""
        fresh = first and not project.config.text("repository.team")
        members = project.team.members.values() if fresh else ()
        return {
            "moved": moved,
            "team": project.team.pin if fresh else "",
            "admins": tuple(one.name for one in members if one.role == "admin"),
            "fingerprint": fingerprint,
            "unencrypted": bool(header and not header.sealed),
        }

    return told


def pull(
    project: Project,
    paths: StrPath | Iterable[StrPath] = (),
    *,
    force: bool = False,
    accept_rewind: bool = False,
    plain: bool = False,
    all: bool = False,
) -> PullResult:
    """Fetch, and update the local files to match.

    Arguments, results and errors are those of `Repository.pull`.
    """
    if plain:
        project.config.flags["repository.unencrypted"] = True
    names = repository_paths(project, paths)
    if names and all:
        raise errors.UsageError("pull takes paths or --all, not both")
    with ensure_set_up(project), _following(project):
        old = attached_head(project)
        check_no_merge(project)
        told = _news_of_place(project)
        remote = fetch_root(project, accept_rewind=accept_rewind)
        purged, taken_out = _follow_purges(project)
        ours = project.database.ref(MAIN)
        theirs = project.database.ref(f"{ORIGIN}/{MAIN}")
        kept = [] if all else partial(project)
        missing = project.index.has_absent and not kept
        if ours == theirs and not (names or project.roster.groups or missing):
            _remember(project, kept)
            # If nothing is new, one request is enough, and not even the keys are needed.
            return PullResult(
                remote=ORIGIN,
                url=remote.url,
                old=old,
                new=ours,
                changes=taken_out,
                purged=purged,
                missing=_missing(project),
                **told(),
            )
        target = _target(project, ours, theirs)
        chosen = _Chosen(names, kept)
        try:
            changes, backup, done = _check_out(project, ours, theirs, target, chosen, force=force)
        except errors.LocalChanges as error:
            if ours is None:  # nothing can be staged before the first pull
                error.facts.setdefault("during", "first pull")
            raise
        _remember(project, [*kept, *names] if kept or ours is None else [])
        commits, _ = history.ahead_behind(project.store, target.commit or ours, ours)
        return PullResult(
            remote=ORIGIN,
            url=remote.url,
            old=old,
            new=target.commit or ours,
            commits=commits,
            changes=tuple(sorted({*taken_out, *changes})) if taken_out else changes,
            backup=backup,
            merged=target.commit not in {None, ours, theirs},
            ignored=done.ignored,
            left_out=done.left_out,
            unplaced=done.unplaced,
            conflicts=target.conflicts,
            purged=purged,
            masked=masked_entries(project, target.commit),
            dropped=tuple(roster.name_of(project.roster, group) for group in target.dropped),
            missing=_missing(project),
            **told(),
        )


def _remember(project: Project, paths: Collection[str]) -> None:
    """Limit later pulls to paths; the root, or none, stands for all files."""
    chosen = sorted(set(paths)) if "" not in paths else []
    if chosen != partial(project):
        project.database.set(PARTIAL, "\0".join(chosen).encode())


def _missing(project: Project) -> tuple[str, ...]:
    """Return the files that are tracked but not on disk, except those that were left out."""
    stats = project.worktree.stats(project.index.present())
    return tuple(path for path, stat in stats if stat is None)


def _follow_purges(project: Project) -> tuple[tuple[Tombstone, ...], tuple[Change, ...]]:
    """Take files out of the local history that were purged since the last pull."""
    fresh = unfollowed_purges(project)
    if not fresh or project.database.ref(MAIN) is None:
        record_followed(project)
        return (), ()
    from dorky.commands import purges

    return purges.follow(project, fresh)


def _check_out(
    project: Project,
    ours: ObjectId | None,
    theirs: ObjectId | None,
    target: Merged,
    chosen: _Chosen,
    *,
    force: bool,
) -> tuple[tuple[Change, ...], str, checkout.Done]:
    """Update the files, the index and ``main`` to a target, or begin the merge that it needs.

    Returns:
        The changes of files, the ref that keeps what ``force`` overwrote, and what was done.
    """
    view = projection.View(project.store, target.trees, project.owner)
    wanted = _wanted(chosen, view)
    unsettled = _unsettled(target)
    rows, made = plan_checkout(
        project, ours, view, lambda path: path in unsettled or wanted(path), target.left
    )
    exact = _vouched(project, theirs, target, made)
    backup, done = carry_out(project, rows, made, force=force, exact=exact)
    clean = project.index.commit == ours or (ours is None and not project.index.count)
    clean = clean and not (target.left or target.dropped)
    with project.database.transaction():
        done.record(project.index)
        record_groups(project)
        if target.conflicts:
            _begin_merge(project, ours, theirs, target)
        elif target.commit is not None:
            project.database.set_ref(MAIN, target.commit)
            if clean:
                project.index.set_commit(target.commit)
    return made.changes(rows), backup, done


def _vouched(project: Project, theirs: ObjectId | None, target: Merged, made: Plan) -> set[str]:
    """Refuse files of the remote's that are not signed as the rules demand (see `vouching.check`).

    Of a file that was merged, somebody must vouch for the remote's version.
    """
    if theirs is None or not project.config.rules:
        return set()
    from dorky.commands import vouching

    paths = made.write.keys() | {conflict.path for conflict in target.conflicts}
    held = dict(projection.current(project.store, theirs).files(paths))
    found = vouching.check(project, held)
    for path in found:
        group, entry = held[path]
        merged = path not in made.write or made.write[path].entry != entry
        if merged and not project.store.missing(checkout.needed(project.store, [entry])):
            for _ in vouching.exact(checkout.read(project.store, entry, group), entry):
                pass
    copies = {conflict.beside for conflict in target.conflicts if conflict.path in found}
    return found | copies


def _unsettled(target: Merged) -> set[str]:
    """Return the files in conflict, and the copies of the other side next to them."""
    return {path for conflict in target.conflicts for path in (conflict.path, conflict.beside)}


@contextlib.contextmanager
def _following(project: Project) -> Iterator[None]:
    """Record a pull in the operation log, except the first one.

    Before the first pull there is nothing to go back to.
    """
    nothing = project.database.ref(MAIN) is None and not project.index.count
    if nothing and not oplog.log(project.database, 1):
        yield
        return
    with project.operation("pull"):
        yield


def _begin_merge(
    project: Project, ours: ObjectId | None, theirs: ObjectId | None, target: Merged
) -> None:
    """Record a merge that has conflicts.

    The index keeps the local version of the files in conflict.
    """
    assert theirs is not None
    assert project.database.operation is not None
    before = dict(projection.current(project.store, ours).files())
    told = [conflict for conflict in target.conflicts if conflict.path not in target.left]
    project.index.remove(path for conflict in told for path in (conflict.path, conflict.beside))
    project.index.put(
        staging.row_of(conflict.path, before[conflict.path], project.vault, absent=False)
        for conflict in told
        if conflict.path in before
    )
    state = pending.State(
        theirs=theirs,
        label=f"{ORIGIN}/{MAIN}",
        operation=project.database.operation[0],
        trees=target.trees,
        sealed=target.sealed,
        conflicts=target.conflicts,
        paths=tuple(sorted({*_unsettled(target), *target.left})),
    )
    pending.save(project.database, state)


def sync(project: Project, *, rewrite: bool = False) -> Synced:
    """Pull, merge and push, until both sides are equal or there are conflicts.

    Arguments, results and errors are those of `Repository.sync`.
    """
    from dorky.store import attestations

    check_writable(project.driver())
    rewritten = 0
    for rounds in range(1, _ROUNDS + 1):
        pulled = pushed = None
        if rewrite:
            rewritten += place_unpushed(project)
        # The remote is empty: the local commits become its first.
        with contextlib.suppress(errors.NoRepositoryAtURL):
            pulled = pull(project)
        same = project.database.ref(MAIN) == project.database.ref(f"{ORIGIN}/{MAIN}")
        settled = same and not attestations.unpushed(project.database, ORIGIN)
        if pulled and not pulled.conflicts and same and pulled.new is None:
            raise errors.NoCommits
        try:
            if not (pulled and (pulled.conflicts or settled)):
                pushed = push(project)
        except errors.Rejected:
            continue
        except errors.Misplaced:
            if not rewrite or rounds == _ROUNDS:
                raise
            continue  # a group was started just now
        return Synced(pulled=pulled, pushed=pushed, rounds=rounds, rewritten=rewritten)
    raise errors.ServiceUnavailableError(project.driver().url, "others keep pushing")


def place_unpushed(project: Project) -> int:
    """Rewrite the commits that are not pushed by the newest roster; return how many changed."""
    from dorky.merge import rewrite

    if not project.is_set_up:
        return 0
    with project.operation("sync --rewrite"):
        head = attached_head(project)
        check_no_merge(project)
        remote = project.remote()
        with contextlib.suppress(errors.NoRepositoryAtURL):
            remote = fetch_root(project)
        known = project.roster
        if head is None or not known.groups:
            return 0
        listed = remote_push.listed_by(remote, remote.seen)
        with project.store.writer() as writer:
            done = rewrite.place(
                project.store,
                writer,
                head,
                lambda commit: bool(listed([commit])),
                known,
                lambda entries: fetch_missing(project, checkout.needed(project.store, entries)),
            )
            writer.save()
        made = done.get(head, head)
        if made != head:
            _follow_rewriting(project, head, made)
        return sum(old != new for old, new in done.items())


def _follow_rewriting(project: Project, head: ObjectId, made: ObjectId) -> None:
    """Update ``main`` and the index to follow commits that were rewritten for other groups."""
    old, new = (history.trees_of(project.store, commit) for commit in (head, made))
    rows = project.index.rows()
    # Compare each tree by itself: the files that move lie where no reader looks for them.
    before, after = (
        {
            group: dict(history.files_of(project.store, {group: tree}))
            for group, tree in trees.items()
        }
        for trees in (old, new)
    )
    moved = []
    for group, held in after.items():
        for path, entry in held.items():
            changed = entry != before.get(group, {}).get(path)
            row = rows.get(path) if changed else None
            if row and any(staging.agree(row, tree.get(path)) for tree in before.values()):
                moved.append(staging.moved(row, Placed(group, entry), project.vault))
    clean = project.index.commit == head
    with project.database.transaction():
        project.database.set_ref(MAIN, made)
        project.index.put(moved)
        # A group that had no tree before is new, so the index covers it completely.
        project.index.set_groups(project.index.groups | (new.keys() - old.keys()))
        if clean:
            project.index.set_commit(made)


def _target(project: Project, ours: ObjectId | None, theirs: ObjectId | None) -> Merged:
    """Return the commit that ``main`` moves to: the side that has both, or a merge of the two."""
    if ours and theirs:
        ahead, behind = history.ahead_behind(project.store, ours, theirs)
        if ahead and behind:
            return merge(
                project.store,
                ours,
                theirs,
                label=f"{ORIGIN}/{MAIN}",
                author=project.author,
                known=project.roster,
                rows=project.index.rows(),
                bring=lambda entries: fetch_missing(
                    project, checkout.needed(project.store, entries)
                ),
            )
        if behind:
            old = projection.current(project.store, ours)
            living = {group.id for group in roster.living(project.roster)}
            new = projection.current(project.store, theirs)
            view, dropped = without_drops(old, new, living)
            return Merged(theirs, dict(view.trees), {}, (), dropped=tuple(dropped))
        left = unpushed(project.store, ours, theirs, project.roster)
        return Merged(ours, history.trees_of(project.store, ours), {}, (), left)
    commit = ours or theirs
    left = unpushed(project.store, ours, None, project.roster)
    return Merged(commit, history.trees_of(project.store, commit), {}, (), left)


def _wanted(chosen: _Chosen, view: View) -> checkout.Wanted:
    if not (chosen.named or chosen.before):
        return lambda _: True
    held = dict(view.files())
    found = set(staging.tracked(held, chosen.named, f" in {ORIGIN}/{MAIN}"))
    for path in chosen.before:
        with contextlib.suppress(errors.PathNotTracked):  # deleted since it was chosen
            found.update(staging.tracked(held, [path]))
    return found.__contains__
