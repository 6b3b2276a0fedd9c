"""The user's own keys: finding, making and choosing them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from dorky import errors, files
from dorky.config import Config
from dorky.keys import age, signing
from dorky.results import Key

IDENTITY = "identity"
"""The file in ``~/.dorky`` for the identity that dorky makes; its public key is in a second one."""


def chosen(config: Config) -> tuple[list[age.Identity], str]:
    """Return the identities that the settings name, and where they come from.

    Raises:
        IdentityMissing: The settings name none.
    """
    if text := config.identity_text:
        return age.parse(text, "DORKY_IDENTITY"), "DORKY_IDENTITY"
    if command := config.text("identity_command"):
        return age.parse(age.run_command(command), "DORKY_IDENTITY_CMD"), "DORKY_IDENTITY_CMD"
    try:
        return age.load(config.identity_path), str(config.identity_path)
    except errors.IdentityMissing:
        if "DORKY_IDENTITY" in config.environment:
            # A CI job that may not see secrets (of a fork, say) gets an empty variable.
            raise errors.IdentityMalformed("DORKY_IDENTITY, which is empty,") from None
        raise


def usable(config: Config) -> list[tuple[age.Identity, str]]:
    """Return the identities to open a repository with: the chosen ones, else the user's SSH keys.

    Raises:
        IdentityMissing: The settings name an identity that does not exist.
    """
    try:
        found, source = chosen(config)
    except errors.IdentityMissing:
        if config.text("identity"):
            raise
    else:
        return [(identity, source) for identity in found]
    return of_ssh(config)


def of_ssh(config: Config) -> list[tuple[age.Identity, str]]:
    """Return the user's SSH keys; none if the settings name another identity."""
    result: list[tuple[age.Identity, str]] = []
    for path in _ssh_files(config):
        # An SSH key that dorky can't use is no reason to fail (see `passed_over`).
        with contextlib.suppress(errors.AccessError):
            result += [(identity, str(path)) for identity in age.load(path)]
    return result


def passed_over(config: Config) -> errors.AccessError | None:
    """Return why the first of the user's SSH keys that can't be used can't; None if all can."""
    for path in _ssh_files(config):
        try:
            age.load(path)
        except errors.AccessError as error:
            return error
    return None


def _ssh_files(config: Config) -> list[Path]:
    named = config.identity_text or config.text("identity_command") or config.text("identity")
    return [] if named else config.ssh_keys


def check_not_lost(config: Config) -> None:
    """Refuse to go on without the identity that dorky once made: its place is for a backup.

    Raises:
        IdentityLost: The identity is gone.
    """
    if config.identity_text or config.text("identity_command") or config.text("identity"):
        return
    with contextlib.suppress(errors.SetupError):
        path = config.home / IDENTITY
        note = path.with_name(f"{IDENTITY}.pub")
        if note.is_file() and not os.path.lexists(path):
            raise errors.IdentityLost(path, note)


def _keep(config: Config, identity: age.Identity) -> None:
    """Save a new identity in its usual place, and note its public key next to it."""
    path = config.home / IDENTITY
    age.save(identity, path)
    note = path.with_name(f"{IDENTITY}.pub")
    files.write_atomic(note, f"{identity.public}\n".encode(), mode=0o600)


def own(config: Config) -> tuple[age.Identity, bool]:
    """Return the user's identity, made if there is none, and whether it was made."""
    try:
        return chosen(config)[0][0], False
    except errors.IdentityMissing:
        check_not_lost(config)
        identity = age.generate()
        try:
            if config.identity_path == config.home / IDENTITY:
                _keep(config, identity)
            else:
                age.save(identity, config.identity_path)
        except errors.DiskError:
            if not config.identity_path.exists():
                raise
            return chosen(config)[0][0], False  # another command has just made it
        return identity, True


# --- commands -------------------------------------------------------------------------------


def make(config: Config, path: str = "") -> Key:
    """Make an identity in a file that does not exist yet.

    Raises:
        Conflict: The file exists.
        IdentityLost: It is the usual place, and the identity that was in it is gone.
    """
    target = files.expanded(path) if path else config.home / IDENTITY
    if target.exists() or target.is_symlink():
        raise errors.KeyExists(target)
    identity = age.generate()
    if path:
        age.save(identity, target)
    else:
        check_not_lost(config)
        _keep(config, identity)
    return described(identity, str(target))


def shown(config: Config) -> list[Key]:
    """Return the keys in use.

    Raises:
        IdentityMissing: There are none.
    """
    found = usable(config)
    if not found:
        check_not_lost(config)
        raise passed_over(config) or errors.IdentityMissing(config.identity_path)
    return [described(identity, source) for identity, source in found]


def here(config: Config) -> list[Key]:
    """Return all keys on this machine, those in use first."""
    found = [described(identity, source) for identity, source in usable(config)]
    for path in (config.home / IDENTITY, *config.ssh_keys):
        with contextlib.suppress(errors.AccessError):
            found += [described(identity, str(path)) for identity in age.load(path)]
    first: dict[str, Key] = {}
    for identity in found:
        first.setdefault(identity.recipient, identity)
    return list(first.values())


def use(config: Config, path: str) -> list[Key]:
    """Make the identities in a file the user's identities.

    Raises:
        IdentityMissing: The file does not exist.
        IdentityMalformed: It holds no identity.
    """
    target = files.expanded(path).absolute()
    if target.suffix == ".pub":
        raise errors.PublicHalf(path, target.with_suffix(""))
    found = age.load(target)
    config.set("identity", str(target), scope="user")
    return [described(identity, str(target)) for identity in found]


def described(identity: age.Identity, source: str = "") -> Key:
    """Return the public keys of an identity for display."""
    signer = "" if identity.public.startswith("ssh-") else signing.public_of(identity)
    return describe(identity.public, source, signer=signer)


def describe(recipient: str, source: str = "", problem: str = "", signer: str = "") -> Key:
    """Return a public key for display; one that has a problem may be any text."""
    fingerprint = age.anonymous(recipient) if problem else signing.fingerprint(recipient, signer)
    return Key(
        recipient=recipient,
        fingerprint=fingerprint,
        source=source,
        problem=problem,
        signer=signer,
    )
