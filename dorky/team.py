"""Who may read: the team, letting people in, taking access away, new keys.

Everything here is one compare-and-swap of the root: it takes effect as a whole, or not at all. What
is uploaded before it is in no root, what is deleted after it was in none any more.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from dorky import (
    checkout,
    documents,
    errors,
    files,
    history,
    identities,
    keys,
    kms,
    model,
    outgoing,
    placement,
    roster,
    vault,
)
from dorky.drivers.base import Driver
from dorky.history import MAIN
from dorky.model import ALL, Entry, Group, Header, KiB, Locked, Member, Request, Roster
from dorky.project import ORIGIN
from dorky.remote import root as roots
from dorky.remote import rotate
from dorky.remote.condemned import delete
from dorky.remote.fetch import fetch
from dorky.remote.journal import Sent
from dorky.remote.push import remember
from dorky.remote.root import Remote, Seen
from dorky.results import (
    Exposure,
    Generated,
    Grouped,
    Overlap,
    Reader,
    Requested,
    Rotation,
    Team,
    Transfer,
    Unused,
)
from dorky.variables import VariableWork
from dorky.vault import Vault

JOIN = "join/"
"""Where requests to join lie in the remote."""

UNUSED = "unused"
"""Stands for the fingerprints of all keys of a member that can't be used."""

_ATTEMPTS = 5
_REQUEST = 8 * KiB
_REQUESTS = 100
_STANZAS = 8
_NO_REQUEST = (errors.KeyNotFound, errors.IntegrityError, errors.UsageError, model.Malformed)
"""What is found in place of a request that somebody made."""
_SHORTEST = 12
"""Characters of a passphrase: it can be tried at leisure by who reads the bucket."""


class Access(NamedTuple):
    """What a new member is let in by.

    Attributes:
        recipients: Public keys.
        locked: The secret key of the one recipient, if it is to lie in the repository.
        secret: The secret key, if somebody is to write it down.
    """

    recipients: tuple[str, ...]
    locked: Locked | None = None
    secret: str = ""


def by_passphrase(passphrase: str) -> Access:
    """Access for who knows a passphrase.

    Raises:
        UsageError: It is too short.
    """
    if len(passphrase) < _SHORTEST:
        raise errors.UsageError(
            f"a passphrase has at least {_SHORTEST} characters",
            hint="whoever reads the bucket can try as many as they like: take several words",
        )
    made = keys.generate()
    locked = Locked(made.public, "passphrase", keys.lock(made, passphrase))
    return Access((made.public,), locked)


def by_kms(spec: str, repository: str) -> Access:
    """Access for who may use a KMS key of AWS."""
    arn = kms.parse(spec)
    made = keys.generate()
    data = kms.lock(made.secret, arn, repository)
    return Access((made.public,), Locked(made.public, "awskms", data, arn))


def recovery(kind: str, passphrase: str) -> Access:
    """A second way in: ``key``, to be written down, or ``passphrase``."""
    if kind == "passphrase":
        return by_passphrase(passphrase)
    made = keys.generate()
    return Access((made.public,), secret=made.secret)


class Following(NamedTuple):
    """What a root is to be replaced by.

    Attributes:
        header: Its header.
        changes: What else of it changes.
        sent: Packs that have been uploaded for it.
    """

    header: Header
    changes: dict[str, Any]
    sent: Sequence[Sent] = ()


class TeamWork(VariableWork):
    """The commands that change who may read."""

    # --- looking ---------------------------------------------------------------------------

    def team_list(self, path: str = "") -> Team:
        """Who may read, and who asks to.

        Args:
            path: If given, only those who may read this file.
        """
        with self._prepared():
            remote = self._fetched()
            known = self.roster
            name = self.worktree.relative(path) if path else ""
            group = placement.owner(known)(name) if path else ALL
            if group is None:
                raise outgoing.contested(known, name)
            return Team(
                members=tuple(self._reader(each) for each in roster.readers(known, group)),
                groups=() if path else self._groups(known),
                requests=() if path else tuple(self._requests(remote)),
                path=name,
                group=roster.name_of(known, group),
            )

    def _reader(self, member: Member) -> Reader:
        known, header = self.roster, self.header
        locked = {each.recipient: each.kind for each in header.locked}
        unused = roster.unused(known)
        alive = [each for each in roster.living(known) if each.id in member.groups]
        return Reader(
            name=member.name,
            keys=tuple(
                identities.describe(key, problem=unused.get(key, "")) for key in member.recipients
            ),
            groups=tuple(each.name for each in alive),
            you=not self.publics.isdisjoint(member.recipients),
            how=next((locked[each] for each in member.recipients if each in locked), "key"),
        )

    def _groups(self, known: Roster) -> tuple[Grouped, ...]:
        own = self.vault.groups
        return tuple(described(known, each, own) for each in roster.living(known))

    # --- requests --------------------------------------------------------------------------

    def fetch(self, *, accept_rewind: bool = False) -> Transfer:
        """Learn what the remote has, and who asks to be let in, without changing any file."""
        done = super().fetch(accept_rewind=accept_rewind)
        # Who may read need not be allowed to list.
        with contextlib.suppress(errors.AccessError):
            self._requests(self.remote())
        return done

    def team_join(self, name: str = "") -> Requested:
        """Ask to be let in: put a request into the remote, sealed to the members.

        Args:
            name: What the user wants to be called.

        Raises:
            NothingToDo: The user can read the repository.
        """
        name = roster.check_name(name or roster.suggest_name(self.author), "member")
        driver = self.driver()
        try:
            blob = driver.get(roots.KEY)
        except errors.KeyNotFound:
            raise errors.NoRepositoryAtURL(driver.url) from None
        assert blob is not None
        header, body = roots.read_header(blob.data, driver.url)
        try:
            self.unlock(header, roots.verifier(header, body, driver.url))
        except (errors.NoKey, errors.IdentityMissing):
            pass
        else:
            if not header.sealed:
                raise errors.NothingToDo("the repository is plain: who gets at it can read it")
            raise errors.NothingToDo("you can read this repository already", hint="dorky pull")
        identity, made = identities.own(self.config)
        source = str(self.config.identity_path) if made else ""
        request = Requested(name=name, key=identities.describe(identity.public, source))
        _ask(driver, header, request)
        return request

    def _requests(self, remote: Remote) -> list[Requested]:
        """Who asks to be let in. What can't be read is nobody's."""
        seen = remote.seen
        assert seen is not None
        if not seen.root.mailbox:
            return []
        try:
            mailbox = keys.parse(seen.root.mailbox, "the mailbox")
        except errors.AccessError:  # any member can write anything there
            return []
        members = {key for each in seen.root.roster.members for key in each.recipients}
        found = []
        for each in itertools.islice(remote.driver.list(JOIN), _REQUESTS):
            if each.size > _REQUEST:
                continue
            with contextlib.suppress(*_NO_REQUEST):
                blob = remote.driver.get(each.key, limit=_REQUEST)
                data = keys.unwrap(blob.data, mailbox, most=_STANZAS) if blob else None
                request = model.decode(Request, data) if data else None
                if request and request.recipient not in members:
                    public = keys.recipient(request.recipient)
                    found.append(Requested(name=request.name, key=identities.describe(public)))
        self.database.set("requests", " ".join(each.name for each in found).encode())
        return found

    def requests(self, name: str) -> list[Requested]:
        """The requests to be let in under a name."""
        with self._prepared():
            return [each for each in self._requests(self._fetched()) if each.name == name]

    # --- letting in ------------------------------------------------------------------------

    def team_add(
        self, name: str, access: str, *, passphrase: str = "", new: bool = False
    ) -> Reader:
        """Let somebody in, or give a member another key.

        Args:
            name: What to call them.
            access: ``age1…``, ``ssh-…``, ``@FILE`` of such keys, ``passphrase``, ``awskms:ARN``.
            passphrase: For the fourth.
            new: Whether to refuse to give somebody who is on the team another key.

        Raises:
            NothingToDo: They have that key already.
            Conflict: The key is somebody else's, or the name is taken and was to be new.
        """
        roster.check_name(name, "member")
        with self._prepared():
            made: list[Access] = []

            def admit(_: Remote, seen: Seen, opened: Vault) -> Following:
                if not made:
                    made.append(self._access(access, passphrase))
                if new and any(each.name == name for each in seen.root.roster.members):
                    raise errors.Conflict(
                        f"there is a {name} on the team already", hint="dorky team list"
                    )
                return _admit(seen, opened, name, made[0])

            remote = self._change(admit)
            # Who may write need not be allowed to delete.
            with contextlib.suppress(errors.AccessError, errors.Unavailable):
                remote.driver.delete(map(_place, made[0].recipients))
            left = [each for each in self.database.text("requests").split() if each != name]
            self.database.set("requests", " ".join(left).encode())
            return self._reader(roster.member(self.roster, name))

    def _access(self, access: str, passphrase: str) -> Access:
        if access == "passphrase":
            return by_passphrase(passphrase)
        if access.startswith("awskms:"):
            return by_kms(access, self.header.repository)
        if access.startswith("@"):
            path = files.expanded(access[1:])
            with files.disk_errors(path):
                text = path.read_text("utf-8", errors="replace")
            return Access(tuple(keys.recipients(text)))
        return Access((keys.recipient(access),))

    def key_gen_ci(self, name: str) -> Generated:
        """Make a key for a CI job and let it in. The secret part is in the result alone."""
        made = keys.generate()
        self.team_add(name, made.public, new=True)
        return Generated(key=identities.describe(made.public), secret=made.secret, member=name)

    # --- taking away -----------------------------------------------------------------------

    def team_remove(
        self,
        name: str,
        *,
        key: str = "",
        all_history: bool = False,
        dry_run: bool = False,
        lock_out: bool = False,
    ) -> Rotation:
        """Take somebody's access away: new keys, for those who stay.

        Args:
            name: Who.
            key: The fingerprint of the one key of theirs that goes, or ``unused`` for all that
                can't be used; without it the member goes.
            all_history: Whether old revisions are sealed anew, too.
            dry_run: Whether to only tell what they can read.
            lock_out: Whether it may be the user who can read nothing any more.

        Raises:
            NoSuchMember: There is nobody of that name.
            NotFound: They have no such key.
            ForeignGroup: They belong to a group that the user is not in, who so can't renew its
                key.
            WouldLockOut: The user would have no access any more.
            UsageError: Nobody would.
        """
        with self._prepared():
            exposed: list[Exposure] = []
            out: list[bool] = []
            rest: list[str] = []

            def remove(known: Roster, opened: Vault) -> tuple[Roster, set[str]]:
                leaver = roster.member(known, name)
                going = _chosen(known, leaver, key)
                left = tuple(each for each in leaver.recipients if each not in going)
                rest[:] = left
                stay = roster.drop(known, name)
                if left:
                    stay = roster.put(known, msgspec.structs.replace(leaver, recipients=left))
                heirs = roster.recipients(stay, ALL)
                if not heirs:
                    raise errors.UsageError(
                        "nobody would be left who can read this repository",
                        hint="dorky destroy deletes it",
                    )
                out[:] = [self.publics.isdisjoint(heirs)]
                if out[0] and not (lock_out or dry_run):
                    raise errors.WouldLockOut(name)
                groups = roster.keyed(known) & {ALL, *leaver.groups}
                # Nothing was ever wrapped to what is no key, in no group.
                sound = not all(map(keys.problem, going))
                if not sound:
                    groups = {ALL}
                for group in groups - opened.groups:
                    # Of a group that nobody is left in there is nobody who could renew the key.
                    if roster.readers(stay, group):
                        raise errors.ForeignGroup(name, roster.name_of(known, group))
                groups &= opened.groups
                exposed[:] = self._exposed(groups) if sound else []
                return stay, groups

            done = self._rotate(remove, all_history=all_history, dry_run=dry_run, lock_out=lock_out)
            return msgspec.structs.replace(
                done,
                removed=name,
                key=key if rest else "",
                exposed=tuple(exposed),
                locked_out=out[0],
            )

    def rotate(self, *, all_history: bool = False) -> Rotation:
        """Give everybody's group, and every group that the user is in, a new key."""
        with self._prepared():
            return self._rotate(
                lambda known, opened: (known, opened.groups & roster.keyed(known)),
                all_history=all_history,
            )

    def _rotate(
        self,
        choose: Callable[[Roster, Vault], tuple[Roster, Collection[str]]],
        *,
        all_history: bool = False,
        dry_run: bool = False,
        lock_out: bool = False,
    ) -> Rotation:
        """Begin new epochs and seal anew.

        Args:
            choose: Gives the roster to be, and the groups whose keys are renewed.
            all_history: See `rotate.reseal`.
            dry_run: Whether to only choose.
            lock_out: Whether the user may leave.
        """
        chosen: set[str] = set()
        did: list[tuple[rotate.Resealed, list[Requested]]] = []

        def change(remote: Remote, seen: Seen, opened: Vault) -> Following | None:
            known, groups = choose(seen.root.roster, opened)
            chosen.clear()
            chosen.update(groups)
            if dry_run:
                return None
            header = seen.header
            for group in sorted(groups):
                heirs = roster.recipients(known, group)
                if not heirs:
                    what = roster.name_of(known, group)
                    raise errors.UsageError(
                        f"nobody would be left in the group {what}",
                        hint=f"first: dorky group members {what} --add NAME",
                    )
                header, opened = vault.begin_epoch(header, opened, group, heirs)
            heirs_of_all = set(roster.recipients(known, ALL))
            locked = tuple(each for each in header.locked if each.recipient in heirs_of_all)
            # The leaver knows the old one's secret key.
            mailbox = keys.generate()
            header = msgspec.structs.replace(header, locked=locked, mailbox=mailbox.public)
            waiting: list[Requested] = []
            with contextlib.suppress(errors.AccessError):
                waiting = self._requests(remote)
            resealed = rotate.reseal(
                remote, seen, opened, groups, all_history=all_history, progress=self.progress
            )
            did[:] = [(resealed, waiting)]
            changes = {**resealed.changes, "roster": known, "mailbox": mailbox.secret}
            if lock_out and self.publics.isdisjoint(heirs_of_all):
                # The user leaves: the new keys are used once more, for the swap.
                self._keyring.adopt(header, opened)
            return Following(header, changes, resealed.sent)

        remote = self._change(change)
        known = self.roster
        done = Rotation(
            groups=tuple(sorted(roster.name_of(known, each) for each in chosen)),
            fingerprint=self.vault.fingerprint,
            skipped=tuple(each.name for each in self._groups(known) if not each.yours),
            unused=_unused(known),
        )
        if dry_run:
            return done
        resealed, waiting = did[0]
        for each in waiting:
            _ask(remote.driver, self.header, each)
        delete(remote, resealed.changes["condemned"])
        return msgspec.structs.replace(
            done, objects=resealed.objects, size=resealed.size, kept=resealed.kept, done=True
        )

    def _me(self, known: Roster) -> Member | None:
        return roster.me(known, self.publics)

    def _other(self, known: Roster, name: str) -> Member:
        """The member of that name, who is to be put out.

        Raises:
            NoSuchMember: There is none.
            UsageError: It is the user.
        """
        found = roster.member(known, name)
        if found == self._me(known):
            raise errors.UsageError("you can't remove yourself", hint="ask another member to do it")
        return found

    def _exposed(self, groups: Collection[str]) -> list[Exposure]:
        """What the members of groups can read now: files, and the variables in them."""
        head = self.database.ref(f"{ORIGIN}/{MAIN}")
        trees = history.trees_of(self.store, head, groups)
        return self._exposures(
            {path: [entry] for path, entry in history.files_of(self.store, trees)}
        )

    def _exposures(self, found: Mapping[str, Iterable[Entry]]) -> list[Exposure]:
        """Files, and the variables in what each of them holds or has held."""
        telling = {
            path: [entry for entry in entries if entry.size < model.MiB]
            for path, entries in found.items()
            if documents.syntax_of(path) == documents.Syntax.DOTENV
        }
        held = itertools.chain.from_iterable(telling.values())
        self._bring(checkout.needed(self.store, held))
        exposed = []
        for path in sorted(found):
            names: dict[str, str] = {}
            for entry in telling.get(path, ()):
                data = b"".join(checkout.read(self.store, entry))
                with contextlib.suppress(errors.UsageError):
                    names.update(documents.parse(path, data).items())
            exposed.append(Exposure(path=path, variables=tuple(names)))
        return exposed

    # --- the swap --------------------------------------------------------------------------

    def _change(self, change: Callable[[Remote, Seen, Vault], Following | None]) -> Remote:
        """Replace the remote's root by what ``change`` makes of it, and follow it in `.dorkyrc`.

        Args:
            change: May be called again, when somebody else was faster; None for no change.

        Raises:
            UsageError: The repository is plain: it has no keys.
            ServerBusy: Others were faster, again and again.
        """
        try:
            remote = self._fetched()
        except errors.NoRepositoryAtURL as error:
            # Begun here, and not there yet.
            hint = "dorky push" if self.database.ref(MAIN) else None
            raise errors.NoRepositoryAtURL(*error.args, hint=hint) from None
        for _ in range(_ATTEMPTS):
            seen = remote.seen
            assert seen is not None
            if not seen.header.sealed:
                raise errors.UsageError("a plain repository has no keys, and so no team")
            following = change(remote, seen, self.unlock(seen.header))
            if following is None:
                return remote
            before = seen.root.roster
            after = following.changes.get("roster", before)
            heirs = roster.recipients(after, ALL)
            leaves = self._keyring.opened(following.header) is not None
            if self.publics.isdisjoint(heirs) and not leaves:
                raise errors.UsageError("no key of yours would be used", hint="dorky team list")
            roster.check_room(before, after)
            vault.check_room(seen.header, following.header)
            known = roster.sealed(before, after, self.unlock(following.header))
            root = roots.successor(seen.root, **{**following.changes, "roster": known})
            try:
                won = remote.swap(following.header, root)
            except errors.PreconditionFailed:
                self.unlock(seen.header)
                delete(remote, [each.pack.id for each in following.sent])
                fetch(remote, self.progress)
                continue
            except BaseException:
                # Keys that nobody else may ever see must not be used.
                self.unlock(seen.header)
                raise
            try:
                remember(remote, won, following.sent, self.progress)
            except errors.AccessError:
                # Others have followed already, and the user has just left.
                if not leaves:
                    raise
            self._pin()
            return remote
        raise errors.ServerBusy(remote.url, "others keep changing it")

    def _pin(self) -> None:
        """Make `.dorkyrc` commit to the newest key."""
        if self.config.text("repository.id"):
            fingerprint = self.vault.fingerprint
            if self.config.text("repository.fingerprint") != fingerprint:
                self.config.set("repository.fingerprint", fingerprint, scope="project")


def described(known: Roster, group: Group, own: Collection[str]) -> Grouped:
    """A group as it is shown to who is in the groups ``own``."""
    return Grouped(
        name=group.name,
        patterns=group.patterns,
        members=tuple(each.name for each in roster.readers(known, group.id)),
        yours=group.id in own,
        overlaps=tuple(
            Overlap(pattern=mine, group=other.name, other=theirs)
            for mine in group.patterns
            for other in known.groups
            for theirs in (other.patterns if other.id != group.id else ())
            if placement.overlap(mine, theirs)
        ),
    )


def _chosen(known: Roster, member: Member, key: str) -> set[str]:
    """The public keys of a member that a fingerprint (or the key itself) means; all without one.

    Raises:
        NotFound: There is none.
    """
    problems = roster.unused(known)
    found = {
        each
        for each in member.recipients
        if key in {"", each, identities.describe(each, problem=problems.get(each, "")).fingerprint}
        or (key == UNUSED and each in problems)
    }
    if not found:
        raise errors.NotFound(f"{member.name} has no key {key}", hint="dorky team list")
    return found


def _unused(known: Roster) -> tuple[Unused, ...]:
    """The keys of members that nothing is encrypted to."""
    problems = roster.unused(known)
    return tuple(
        Unused(
            member=member.name,
            fingerprint=identities.describe(key, problem=problems[key]).fingerprint,
            problem=problems[key],
        )
        for member in known.members
        for key in member.recipients
        if key in problems
    )


def _place(recipient: str) -> str:
    """Where the request of who has a key lies: one a key, and none tells the key."""
    return JOIN + hashlib.sha256(recipient.encode()).hexdigest()[:32]


def _ask(driver: Driver, header: Header, request: Requested) -> None:
    """Put a request to join into the remote, for the members' eyes only."""
    body = model.encode(Request(request.name, request.key.recipient))
    driver.put(_place(request.key.recipient), keys.wrap(body, [header.mailbox]))


def _check_locked(locked: Sequence[Locked]) -> None:
    """Refuse more secret keys in a repository than a reader tries to unlock.

    Raises:
        UsageError: They are more.
    """
    tried = sum(keys.work(each.data) for each in locked if each.kind == "passphrase")
    if tried > 1 << keys.MOST_WORK or len(locked) > model.LOCKED:
        most = 1 << (keys.MOST_WORK - keys.WORK)
        raise errors.UsageError(
            f"a repository has at most {most} passphrases, "
            f"and {model.LOCKED} passphrases and KMS keys together",
            hint="dorky team list",
        )


def _admit(seen: Seen, opened: Vault, name: str, access: Access) -> Following:
    """The root with a member let in, or with another key for one."""
    known = seen.root.roster
    held = {key: each.name for each in known.members for key in each.recipients}
    for key in access.recipients:
        if held.get(key, name) != name:
            raise errors.Conflict(f"that key is {held[key]}'s already", hint="dorky team list")
    new = [key for key in access.recipients if key not in held]
    if not new:
        raise errors.NothingToDo(f"{name} has that key already", hint="dorky team list")
    before = next((each for each in known.members if each.name == name), Member(name, ()))
    alive = roster.keyed(known)
    for group in alive.intersection(before.groups) - opened.groups:
        # Else the new key would open less than the member's others do.
        raise errors.ForeignGroup(name, roster.name_of(known, group))
    member = msgspec.structs.replace(before, recipients=(*before.recipients, *new))
    known = roster.put(known, member)
    header = seen.header
    if access.locked:
        _check_locked((*header.locked, access.locked))
        header = msgspec.structs.replace(header, locked=(*header.locked, access.locked))
    for group in alive.intersection((ALL, *member.groups)):
        header = vault.wrap_anew(header, opened, group, roster.recipients(known, group))
    return Following(header, {"roster": known})
