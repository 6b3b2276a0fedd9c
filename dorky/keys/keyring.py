"""The user's identities, and the repository keys that they decrypt.

A header is accepted only if it belongs to this project: its keys must lead back to the key that
`.dorkyrc` commits to, and it must hold every key that was seen before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dorky import errors
from dorky.config import RC, Config
from dorky.format import model
from dorky.format.model import Header
from dorky.keys import age, vault
from dorky.keys.vault import Vault

if TYPE_CHECKING:
    from dorky.keys.signing import Signer
    from dorky.keys.teamlog import Team


_RANK = {"admin": 0, "writer": 1, "reader": 2, None: 3}


class Keyring:
    """The identities that decrypt a project's keys, and the keys once they are decrypted.

    Args:
        root: The directory that holds `.dorkyrc`.
        config: Its settings.
        ask: Asks the user for a passphrase; None if nobody can be asked.
    """

    def __init__(self, root: Path | None, config: Config, ask: age.Ask | None) -> None:
        self._root = root
        self._config = config
        self._ask = ask or age.nobody
        self._header: Header | None = None
        self.newest: Vault | None = None
        """The keys that were decrypted last."""
        self._identities: list[age.Identity] | None = None

    @property
    def publics(self) -> set[str]:
        """Return the public keys of the user's identities."""
        return {identity.public for identity in self._held()}

    def _held(self) -> list[age.Identity]:
        if self._identities is None:
            from dorky.keys import identities

            self._identities = [identity for identity, _ in identities.usable(self._config)]
        return self._identities

    def opened(self, header: Header) -> Vault | None:
        """Return a header's keys if they were the last to be decrypted, else None."""
        return self.newest if header == self._header else None

    def signer(self, team: Team) -> Signer:
        """Return the key to sign with: that of the user's identity with the most rights.

        Raises:
            CantSign: Nobody gives the passphrase of the user's SSH key.
        """
        from dorky.keys import identities, signing

        held = self._held()
        if not held:
            held.append(identities.own(self._config)[0])
        ranked = [(_RANK[team.role(signing.public_of(one))], one) for one in held]
        ranked.sort(key=lambda pair: (pair[0], pair[1].locked))
        for rank, identity in ranked:
            if rank == ranked[0][0] and (made := signing.signer(identity, self._ssh_passphrase)):
                return made
        raise errors.CantSign(ranked[0][1].source)

    def adopt(self, header: Header, opened: Vault) -> None:
        """Use keys that this command made, even if the user's identities open none of them."""
        self._header, self.newest = header, opened

    def unlock(self, header: Header, seen: Header | None, verify: Callable[[Vault], None]) -> Vault:
        """Decrypt a header's keys.

        Args:
            header: The repository's header, not yet trusted.
            seen: The header that was seen before.
            verify: See `vault.unlock`.

        Raises:
            WrongRepository: The header belongs to another repository.
            WrongKey: Its key does not lead back to the one that `.dorkyrc` commits to, or to the
                one seen before.
            UnencryptedRepository: It is unencrypted, was not so before, and `.dorkyrc` does not say
                so.
            NoKey: None of the user's identities opens it.
            IdentityMissing: The user has no identity.
        """
        for known in (self._config.text("repository.id"), seen.repository if seen else ""):
            if known and header.repository != known:
                raise errors.WrongRepository(self._place, header.repository[:12], known[:12])
        self._check_epochs(header, seen)
        self._check_encrypted(header, seen)
        if header.sealed:
            self._held()

        # A header that was seen has passed this check. git may have brought a newer `.dorkyrc`,
        # which the older local header can't match.
        def check(everybodys: Vault) -> None:
            if header != seen:
                self.check_pin(header)
            verify(everybodys)

        try:
            opened = vault.unlock(
                header,
                self._identities or [],
                ask=self._ssh_passphrase,
                more=lambda: self._other_identities(header),
                verify=check,
            )
        except errors.NoKey as error:
            raise self._shut_out(header, seen, error) from error
        if header != seen:
            held = self._identities or []
            for group in {epoch.group for epoch in header.epochs} - opened.groups:
                if seen:
                    vault.check_succession(header, seen, group, held, self._ssh_passphrase)
            self.check_pin(header)
        self._header, self.newest = header, opened
        return opened

    def check_pin(self, header: Header) -> None:
        """Refuse a header whose decrypted keys don't lead back to the pinned one.

        Raises:
            WrongKey: They don't.
        """
        pinned = self._config.text("repository.fingerprint")
        if not (pinned or self._config.text("repository.id")):
            return
        chain = [epoch.commitment for epoch in header.epochs if epoch.group == model.ALL] or [""]
        # This also refuses an unencrypted repository where `.dorkyrc` commits to a key.
        if pinned not in chain:
            raise errors.WrongKey(self._place, chain[-1][:16] or "none", pinned[:16] or "none")

    def _check_encrypted(self, header: Header, seen: Header | None) -> None:
        """Refuse an unencrypted repository, unless it was so before or `.dorkyrc` says so.

        Raises:
            UnencryptedRepository: It is unencrypted.
        """
        if header.sealed or seen or self._config.get("repository.unencrypted") is True:
            return
        rc = self._root is not None and (self._root / RC).exists()
        facts = {} if rc else {"cloning": self._place}
        raise errors.UnencryptedRepository(self._place, **facts)

    def _check_epochs(self, header: Header, seen: Header | None) -> None:
        """Refuse a header that does not hold every key that was seen, in the same place.

        A repository that was not encrypted never gets keys.
        """
        if seen and header.sealed and not seen.sealed:
            raise errors.WrongKey(self._place, header.epochs[0].commitment[:16], "none")
        for n, old in enumerate(seen.epochs if seen else ()):
            new = header.epochs[n] if n < len(header.epochs) else None
            if new is None or (new.group, new.commitment) != (old.group, old.commitment):
                found = new.commitment[:16] if new else "none"
                raise errors.WrongKey(self._place, found, old.commitment[:16])

    def _ssh_passphrase(self, prompt: str) -> str | None:
        return self._config.ssh_passphrase or self._ask(prompt)

    def _other_identities(self, header: Header) -> Iterator[age.Identity]:
        """Yield further identities that may open a header when the user's own don't."""
        from dorky.keys import identities

        assert self._identities is not None
        for identity, _ in identities.of_ssh(self._config):
            if identity not in self._identities:
                self._identities.append(identity)
                yield identity
        yield from self._locked_away(header)

    def _locked_away(self, header: Header) -> Iterator[age.Identity]:
        """Yield the identity that is stored in the repository, if the user can unlock it."""
        assert self._identities is not None
        passphrase = None
        budget = 1 << age.MOST_WORK
        for entry in header.locked:
            found: age.Identity | None = None
            if entry.kind == "awskms":
                from dorky.keys import kms

                # An error with one way to unlock must not stop the others.
                with contextlib.suppress(errors.DorkyError):
                    (found,) = age.parse(
                        kms.unlock(entry.data, entry.key, header.repository), entry.key
                    )
            elif 0 < age.work(entry.data) <= budget:
                budget -= age.work(entry.data)
                if passphrase is None:
                    prompt = f"Passphrase of {self._place} (Enter if you have none)"
                    passphrase = self._config.passphrase or self._ask(prompt) or ""
                found = age.unlock(entry.data, passphrase) if passphrase else None
            if found and found.public == entry.recipient:
                # Kept, because a command may meet several headers.
                self._identities.append(found)
                yield found
                return
        if passphrase:
            raise errors.WrongPassphrase(self._place)

    def _shut_out(
        self, header: Header, seen: Header | None, error: errors.NoKey
    ) -> errors.DorkyError:
        """Return the error for a user to whom a header gives no key."""
        from dorky.keys import identities

        identities.check_not_lost(self._config)
        facts = self._whom_to_ask()
        if unfit := identities.passed_over(self._config):
            return errors.IdentityUnfit(unfit.message, cause=unfit, **facts)
        if seen:
            facts["seen"] = True
        for identity in self._identities or ():
            if identity.locked:
                facts["locked"] = identity.source
        if not self._identities:
            return errors.IdentityMissing(self._config.identity_path, **facts)
        if seen:
            vault.check_succession(header, seen, model.ALL, self._identities, self._ssh_passphrase)
        return errors.NoKey(*error.args, **facts)

    def _whom_to_ask(self) -> dict[str, object]:
        """Return who can let the user in: the author of `.dorkyrc`; without one, the place."""
        from dorky import git

        rc = self._root / RC if self._root else None
        return {"author": git.last_author(rc)} if rc and rc.exists() else {"place": self._place}

    @property
    def _place(self) -> str:
        return self._config.text("remotes.origin.url") or str(self._root)
