"""The user's own keys: finding, making and choosing them."""

from __future__ import annotations

import contextlib

from dorky import errors, files
from dorky.config import Config
from dorky.keys import age, signing
from dorky.results import Key


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
    named = config.identity_text or config.text("identity_command") or config.text("identity")
    for path in () if named else config.ssh_keys:
        # An SSH key that dorky can't use is no reason to fail.
        with contextlib.suppress(errors.AccessError):
            result += [(identity, str(path)) for identity in age.load(path)]
    return result


def own(config: Config) -> tuple[age.Identity, bool]:
    """Return the user's identity, made if there is none, and whether it was made."""
    try:
        return chosen(config)[0][0], False
    except errors.IdentityMissing:
        identity = age.generate()
        try:
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
    """
    target = files.expanded(path) if path else config.home / "identity"
    if target.exists() or target.is_symlink():
        raise errors.KeyExists(target)
    identity = age.generate()
    age.save(identity, target)
    return described(identity, str(target))


def shown(config: Config) -> list[Key]:
    """Return the keys in use.

    Raises:
        IdentityMissing: There are none.
    """
    found = usable(config)
    if not found:
        raise errors.IdentityMissing(config.identity_path)
    return [described(identity, source) for identity, source in found]


def here(config: Config) -> list[Key]:
    """Return all keys on this machine, those in use first."""
    found = [described(identity, source) for identity, source in usable(config)]
    for path in (config.home / "identity", *config.ssh_keys):
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
