"""Configuration: flags > environment > .dorkyrc > ~/.dorky/config > defaults.

This is the only module that reads the environment. `.dorkyrc` comes with a git clone and is
**untrusted**: it may hold only the settings listed below, and none of them names a command or a
credential.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dorky import errors, files, ownership

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RC = ".dorkyrc"
SIGNERS = ".dorkysigners"
"""The file next to `.dorkyrc` that says whose signatures of artifacts count, too."""
_SSH_NAMES = ("id_ed25519", "id_rsa", "id_ecdsa", "id_ed25519_sk", "id_ecdsa_sk")
VERSION = 2
"""The newest layout of `.dorkyrc` that this version of dorky reads."""

Scope = Literal["project", "user"]


Plain = str | int | bool | list[str]
"""The value of a setting."""


class Setting(NamedTuple):
    """The type of a setting, and whether `.dorkyrc` may hold it."""

    type: type
    project: bool
    about: str
    env: str = ""


SETTINGS: Mapping[str, Setting] = {
    "version": Setting(int, True, "layout of this file"),
    "repository.id": Setting(str, True, "the repository this project belongs to"),
    "repository.fingerprint": Setting(str, True, "commitment to the repository's key"),
    "repository.team": Setting(str, True, "entry of the team log that the repository must have"),
    "repository.unencrypted": Setting(bool, True, "the repository is not encrypted, on purpose"),
    "portable_names": Setting(bool, True, "refuse names that Windows can't create (default true)"),
    "cache": Setting(
        str, True, "the pushed contents that .dorky/ keeps, too: all, small (default) or none"
    ),
    "client_cache": Setting(
        str,
        False,
        "where clients without a worktree keep what they have read: a directory, yes or no",
        "DORKY_CLIENT_CACHE",
    ),
    "client_cache_max_size": Setting(
        int,
        False,
        "the bytes that this takes at most (default 2 GiB)",
        "DORKY_CLIENT_CACHE_MAX_SIZE",
    ),
    "remotes.*.url": Setting(str, True, "where the remote is"),
    "remotes.*.profile": Setting(str, True, "AWS profile", "AWS_PROFILE"),
    "remotes.*.region": Setting(str, True, "AWS region", "AWS_REGION"),
    "remotes.*.endpoint": Setting(str, True, "service endpoint", "AWS_ENDPOINT_URL"),
    "remotes.*.single_writer": Setting(
        bool, True, "this bucket has one writer ever: push without conditional writes"
    ),
    "remotes.*.service_account": Setting(str, False, "a Google service-account file"),
    "private_hosts": Setting(
        str,
        False,
        "hosts on private or loopback addresses that https:// remotes may be on, by commas",
        "DORKY_PRIVATE_HOSTS",
    ),
    "user.name": Setting(str, False, "author of commits", "DORKY_AUTHOR"),
    "identity": Setting(str, False, "age identity file, or SSH key", "DORKY_IDENTITY_FILE"),
    "identity_command": Setting(str, False, "prints an age identity", "DORKY_IDENTITY_CMD"),
    "safe.directory": Setting(list, False, "directories of other users that you trust; * for all"),
}


class Rule(NamedTuple):
    """A rule by which files must be signed before they are used: a table of ``signatures``.

    Attributes:
        paths: Patterns of the files, as those of groups.
        signers: The names of those whose signatures count; empty for everybody who is trusted.
        threshold: How many of them must have signed.
        type: The type of statement that they must have signed; empty for a signature.
        own: Whether it is the user's own: then no file of the project says whose signatures count.
    """

    paths: tuple[str, ...]
    signers: tuple[str, ...] = ()
    threshold: int = 1
    type: str = ""
    own: bool = False


CACHES = ("none", "small", "all")
"""The values of ``cache``, by how much is kept."""

# The refs of a remote are NAME/…, and `--force` keeps backups at backup/….
_RESERVED = frozenset({"backup"})
_RULES = "signatures"
_MANY_RULES = 100
_LIMIT = 1 << 20
_PROJECTS_OWN = "repository.unencrypted"  # not a setting for all of a user's projects
_PLACE = ("url", "endpoint")
_PROXIES = {
    "proxy": ("http_proxy", "all_proxy"),
    "tls_proxy": ("https_proxy", "all_proxy"),
    "no_proxy": ("no_proxy",),
}
_DOTS = 100  # in a line; tomllib's time grows with the square of a dotted key's parts
_SHOWN = 80
_CACHE, _LEAST_CACHE = 2 << 30, 1 << 20
_YES, _NO = {"yes", "true", "1", "on"}, {"no", "false", "0", "off"}

# Both become part of an address that receives credentials. No user, query or fragment.
_REGION = re.compile(r"[A-Za-z0-9_-]{1,63}", re.ASCII)
_HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
_ENDPOINT = re.compile(rf"https?://{_HOST}(?::[0-9]{{1,5}})?(?:/[A-Za-z0-9._~/-]*)?", re.ASCII)


_PLAIN = frozenset({"file", "gs", "http", "https"})
"""The schemes whose drivers take neither a profile nor an endpoint."""


class Choice(NamedTuple):
    """The credentials of the user that `.dorkyrc` chooses, and where they are sent.

    Attributes:
        place: Scheme and host of the remote's URL: ``s3://bucket``.
        endpoint: The server; empty for the provider's own.
        profile: The AWS profile; empty for the default one.
    """

    place: str
    endpoint: str
    profile: str


def choice(url: str, *, endpoint: str = "", profile: str = "") -> Choice | None:
    """Return the choice that the user must allow for such a remote; None if there is none.

    A directory and a web server take no credentials, and Google's storage takes neither option.
    """
    scheme, separator, rest = url.partition("://")
    profile = "" if profile == "default" else profile
    if not separator or scheme.lower() in _PLAIN or not (endpoint or profile):
        return None
    return Choice(f"{scheme.lower()}://{rest.partition('/')[0]}", endpoint.rstrip("/"), profile)


def exposes(key: str, value: object) -> bool:
    """Return whether a setting is the address of a remote, with credentials in it."""
    return key.endswith((".url", ".endpoint")) and has_credentials(str(value))


def has_credentials(address: str) -> bool:
    """Return whether an address holds a password, a signature or a token."""
    if "://" not in address or not set("@?&") & set(address):
        return False
    from dorky.redaction import redacted

    return redacted(address) != address


OWN_SECRETS = ("DORKY_IDENTITY", "DORKY_IDENTITY_CMD", "DORKY_PASSPHRASE", "DORKY_SSH_PASSPHRASE")
"""The variables each of which opens repositories."""


def child_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a program that dorky starts: without `OWN_SECRETS`.

    Args:
        environment: Replaces the process's environment.
    """
    inherited = os.environ if environment is None else environment
    return {name: value for name, value in inherited.items() if name not in OWN_SECRETS}


def find_program(name: str) -> str | None:
    """Return the path of a program in ``$PATH``; None if there is none.

    Relative entries are skipped: files in the current directory came with the project.
    """
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(place for place in places if place.startswith("/"))
    return shutil.which(name, path=path)


class Value(NamedTuple):
    """A setting in force, and its source."""

    key: str
    value: Plain
    source: str


def describe(key: str) -> Setting:
    """Return the type of the setting ``key``.

    Raises:
        UsageError: The setting does not exist, or a remote can't have that name.
    """
    parts = key.split(".")
    if len(parts) == 3 and parts[0] == "remotes":
        if not parts[1].isidentifier() or parts[1] in _RESERVED:
            raise errors.UsageError(f"a remote can't be named {parts[1]!r}")
        parts[1] = "*"
    setting = SETTINGS.get(".".join(parts))
    if setting is None:
        raise errors.UnknownSetting(key)
    return setting


def parse(key: str, text: str) -> Plain:
    """Read a setting's value as typed on a command line.

    Raises:
        UsageError: The value is not of the setting's type.
    """
    kind = describe(key).type
    if kind is bool:
        if text.lower() not in {"true", "false", "yes", "no", "1", "0"}:
            raise errors.UsageError(f"{key} is true or false, not {text}")
        return text.lower() in {"true", "yes", "1"}
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise errors.UsageError(f"{key} is a number, not {text}") from None
    if not text.isprintable():  # a byte that is not UTF-8 is not printable either
        raise errors.UsageError(f"{key} is one line of text, not {text!a}")
    if kind is list:
        return [text if text == "*" else str(files.expanded(text).resolve())]
    return text


def check(key: str, value: object) -> None:
    """Refuse a value that no configuration file may hold.

    Raises:
        UsageError: It is not one line of text, or would send requests to a wrong place. The message
            does not repeat an address, which may hold a password.
    """
    if not isinstance(value, str):
        return
    if not value.isprintable():  # a byte that is not UTF-8 is not printable either
        raise errors.UsageError(f"{key} is one line of text (UTF-8), not {value[:_SHOWN]!a}")
    if key == "cache" and value not in CACHES:
        raise errors.UsageError(f"cache is all, small or none, not {value[:_SHOWN]!a}")
    name = key.rpartition(".")[2] if key.startswith("remotes.") else ""
    if name == "region" and value and not _REGION.fullmatch(value):
        raise errors.UsageError(f"{key} is a name like eu-central-1, not {value[:_SHOWN]!a}")
    if name == "endpoint" and value and not _ENDPOINT.fullmatch(value):
        raise errors.UsageError(f"{key} is written https://HOST:PORT, without user or query")


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _text(path: Path) -> str:
    """Return the content of a configuration file; empty if there is none."""
    # git can make `.dorkyrc` a link to a file whose lines an error would show.
    data = files.read_small(path, _LIMIT, follow=path.name != RC)
    if data is None:
        return ""
    if any(line.count(b".") > _DOTS for line in data.split(b"\n")):
        raise errors.BadConfig(path, f"a line has more than {_DOTS} dots")
    return data.decode("utf-8")


def read(path: Path, scope: Scope) -> dict[str, Plain]:
    """Read and check a configuration file; a missing one is empty.

    Returns:
        Values by dotted key.

    Raises:
        BadConfig: The file is not TOML or far too large, or a setting in it is unknown, not allowed
            in this file, or of a wrong type.
        ConfigTooNew: The file has a layout that this version of dorky does not know.
    """
    try:
        return _checked(path, tomllib.loads(_text(path)), scope)
    # Besides TOML's own errors, integers of 5,000 digits and excessive nesting raise Python's, some
    # only when the value is shown.
    except (ValueError, RecursionError) as error:
        raise errors.BadConfig(path, error, **_conflict(path)) from None


def _conflict(path: Path) -> dict[str, str]:
    """Return the fact that a file holds a conflict of git's, if it does."""
    try:
        conflict = re.search("^<<<<<<< ", _text(path), re.MULTILINE)
    except (ValueError, errors.DorkyError):
        return {}
    return {"file": "conflict"} if conflict else {}


def _check_version(path: Path, version: object, scope: Scope) -> None:
    """Refuse another layout than this version of dorky's; users' own settings have always had it.

    Raises:
        BadConfig: It is no number of a layout.
        ConfigTooNew: It is a later one.
        FormatTooOld: It is an earlier one.
    """
    if type(version) is not int or not 1 <= version < 1 << 31:
        raise errors.BadConfig(path, f"version is {version!r}")
    if version > VERSION:
        raise errors.ConfigTooNew(path, version, VERSION)
    if version < VERSION and scope == "project":
        raise errors.FormatTooOld(path, version)


def _checked(path: Path, table: dict[str, Any], scope: Scope) -> dict[str, Plain]:
    values = dict(_flatten({name: value for name, value in table.items() if name != _RULES}))
    _check_version(path, table.get("version", VERSION), scope)
    for key, value in values.items():
        if exposes(key, value):
            raise errors.BadConfig(path, f"{key} holds credentials", file="exposed")
    for key, value in values.items():
        try:
            setting = describe(key)
        except errors.UsageError as error:
            raise errors.BadConfig(path, error) from None
        if scope == "project" and not setting.project:
            raise errors.BadConfig(path, f"{key} may only stand in ~/.dorky/config")
        if scope == "user" and key == _PROJECTS_OWN:
            raise errors.BadConfig(path, f"{key} may only stand in a project's {RC}")
        texts = value if isinstance(value, list) else ()
        if type(value) is not setting.type or not all(isinstance(text, str) for text in texts):
            kind = setting.type.__name__
            raise errors.BadConfig(path, f"{key} is not a {kind}: {repr(value)[:_SHOWN]}")
        try:
            check(key, value)
        except errors.UsageError as error:
            raise errors.BadConfig(path, error) from None
    _rules(path, table.get(_RULES, []))
    return values


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read the rules for signatures in a configuration file; a missing one has none.

    Raises:
        BadConfig: It is not TOML, or a rule is malformed.
    """
    try:
        return _rules(path, tomllib.loads(_text(path)).get(_RULES, []))
    except (ValueError, RecursionError) as error:
        raise errors.BadConfig(path, error) from None


def _rules(path: Path, tables: object) -> tuple[Rule, ...]:
    if not isinstance(tables, list) or len(tables) > _MANY_RULES:
        raise errors.BadConfig(path, f"{_RULES} is not at most {_MANY_RULES} tables")
    return tuple(_rule(path, table) for table in tables)


def _rule(path: Path, table: object) -> Rule:
    known = Rule._fields[:-1]
    if not isinstance(table, dict) or not table.keys() <= {*known}:
        raise errors.BadConfig(path, f"a table of {_RULES} has {', '.join(known)} alone")
    found: dict[str, Any] = {**Rule(())._asdict(), **table}
    for name in ("paths", "signers"):
        texts = found[name]
        if not isinstance(texts, list | tuple) or not all(
            isinstance(text, str) and text.isprintable() and text for text in texts
        ):
            raise errors.BadConfig(path, f"{_RULES}.{name} is not a list of texts")
        found[name] = tuple(texts)
    if not found["paths"]:
        raise errors.BadConfig(path, f"a table of {_RULES} names no paths")
    if type(found["threshold"]) is not int or not 1 <= found["threshold"] <= _MANY_RULES:
        raise errors.BadConfig(path, f"{_RULES}.threshold is not a number from 1 on")
    if not isinstance(found["type"], str) or not found["type"].isprintable():
        raise errors.BadConfig(path, f"{_RULES}.type is not a text")
    return Rule(**found)


def write(path: Path, key: str, value: Plain | None) -> bool:
    """Set one value in a configuration file (None removes it), keeping comments and order.

    Returns:
        Whether the file changed.

    Raises:
        BadConfig: The file is not TOML, or has a value in place of a table.
        UsageError: The value is not UTF-8.
    """
    import tomlkit

    try:
        document = tomlkit.parse(_text(path))
    except (ValueError, RecursionError, tomlkit.exceptions.TOMLKitError) as error:
        raise errors.BadConfig(path, error) from None
    table: Any = document
    *parents, name = key.split(".")
    for parent in parents:
        if parent not in table:
            if value is None:
                return False
            inline = isinstance(table, tomlkit.items.InlineTable)
            empty = tomlkit.inline_table() if inline else tomlkit.table(parent == "remotes")
            table[parent] = empty
        table = table[parent]
        if not isinstance(table, Mapping):
            raise errors.BadConfig(path, f"{parent} is not a table")
    if value is None:
        if name not in table:
            return False
        del table[name]
    else:
        table[name] = value
    _prune(document)
    try:
        data = tomlkit.dumps(document).encode()
    except UnicodeEncodeError:
        raise errors.UsageError(f"{key} is not UTF-8: {value!a}") from None
    with files.disk_errors(path, writing=True):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644 & ~files.umask()
    files.write_atomic(path, data, mode=mode)
    return True


def _prune(table: Any) -> None:
    for name in [name for name, value in table.items() if isinstance(value, Mapping)]:
        _prune(table[name])
        if not table[name]:
            del table[name]


class Config:
    """The settings in force for one project (or for none).

    Args:
        root: The project's directory, which holds `.dorkyrc`; None outside a project.
        flags: Settings given on the command line, by key; they override all others.
        environment: Replaces the process's environment.
        connection: Options of drivers that only a program gives (see `drivers.base.Driver.open`).
    """

    def __init__(
        self,
        root: Path | None,
        *,
        flags: Mapping[str, Plain] | None = None,
        environment: Mapping[str, str] | None = None,
        connection: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.connection = connection or {}
        self.flags = dict(flags or {})
        self.environment = os.environ if environment is None else environment
        self._files: dict[Scope, dict[str, Plain]] | None = None

    # --- places ----------------------------------------------------------------------------

    @property
    def home(self) -> Path:
        """Return the directory of the user's own files: ``~/.dorky``.

        Raises:
            SetupError: The user has no home directory.
        """
        try:
            return Path(self.environment.get("HOME") or Path("~").expanduser()) / ".dorky"
        except RuntimeError:  # a container whose account has no entry
            raise errors.NoHome from None

    def path(self, scope: Scope) -> Path:
        """Return the configuration file of a scope."""
        if scope == "user":
            return self.home / "config"
        if self.root is None:
            raise errors.NotARepository(Path.cwd())
        return self.root / RC

    # --- values ----------------------------------------------------------------------------

    def reload(self) -> None:
        """Forget the settings that were read."""
        self._files = None

    def _read(self) -> dict[Scope, dict[str, Plain]]:
        if self._files is None:
            found: dict[Scope, dict[str, Plain]] = {"user": self._read_user()}
            if self.root is not None:
                found["project"] = read(self.path("project"), "project")
            self._files = found  # whole, since other threads may be reading
        return self._files

    def _read_user(self) -> dict[str, Plain]:
        try:
            path = self.path("user")
        except errors.NoHome:  # nobody has set anything
            return {}
        # The file names commands that are run, and the user's key lies next to it.
        ownership.check(
            self.home,
            [self.home, path],
            self.owners | {ownership.ROOT},
            place="home",
            follow=True,
        )
        return read(path, "user")

    def find(self, key: str) -> Value | None:
        """Return a setting in force and its source; None if nothing sets it."""
        setting = describe(key)
        if key in self.flags:
            return Value(key, self.flags[key], "command line")
        if key == "remotes.origin.url" and (url := self._environment_url()):
            return url
        if setting.env and (text := self.environment.get(setting.env)):
            return Value(key, parse(key, text), f"environment ({setting.env})")
        for scope in ("project", "user"):
            values = self._read().get(scope, {})
            if key in values:
                return Value(key, values[key], str(self.path(scope)))
        return None

    def get(self, key: str) -> Plain | None:
        """Return a setting in force; None if nothing sets it."""
        found = self.find(key)
        return found.value if found else None

    def text(self, key: str) -> str:
        """Return a text setting in force; empty if nothing sets it."""
        value = self.get(key)
        return value if isinstance(value, str) else ""

    def items(self) -> list[Value]:
        """Return every setting in force, sorted by key."""
        keys = {key for values in self._read().values() for key in values}
        keys |= {key for key, setting in SETTINGS.items() if "*" not in key and setting.env}
        if self._environment_url():
            keys.add("remotes.origin.url")
        return [found for key in sorted(keys) if (found := self.find(key))]

    def set(self, key: str, value: Plain, *, scope: Scope) -> None:
        """Set a value in a file.

        Raises:
            UsageError: The setting does not exist, or `.dorkyrc` may not hold it.
        """
        if exposes(key, value):
            raise errors.CredentialsInSetting(key)
        if scope == "project" and not describe(key).project:
            raise errors.UsersSetting(key)
        if scope == "user" and key == _PROJECTS_OWN:
            raise errors.ProjectsSetting(key)
        check(key, value)
        write(self.path(scope), key, value)
        self.reload()

    def unset(self, key: str, *, scope: Scope) -> bool:
        """Remove a value from a file; return whether it was there."""
        removed = write(self.path(scope), key, None)
        self.reload()
        return removed

    # --- remotes ---------------------------------------------------------------------------

    def _environment_url(self) -> Value | None:
        if url := self.environment.get("DORKY_URL"):
            return Value("remotes.origin.url", url, "environment (DORKY_URL)")
        if bucket := self.environment.get("DORKY_BUCKET"):
            base = bucket if "://" in bucket else f"s3://{bucket}"
            name = (self.root or Path.cwd()).name
            url = f"{base.rstrip('/')}/{name}"
            return Value("remotes.origin.url", url, "environment (DORKY_BUCKET)")
        return None

    def remotes(self) -> dict[str, str]:
        """Return URLs by remote name, sorted by name."""
        names = {
            key.split(".")[1]
            for values in self._read().values()
            for key in values
            if key.startswith("remotes.") and key.endswith(".url")
        }
        if self.find("remotes.origin.url"):
            names.add("origin")
        named = [name for name in sorted(names) if self.text(f"remotes.{name}.url")]
        return {name: self.url(name) for name in named}

    def url(self, remote: str) -> str:
        """Return the URL of a remote. A relative directory counts from the project's root.

        Raises:
            NoRemote: There is no such remote.
            NoProjectFile: There is no `.dorkyrc` either, as on a git branch from before dorky.
        """
        url = self.text(f"remotes.{remote}.url")
        if not url:
            if self.root is not None and not (self.root / RC).exists():
                raise errors.NoProjectFile(self.root, remote)
            raise errors.NoRemote(remote)
        # With a colon it is a mistyped URL, which the error for it should show as it is.
        relative = not url.startswith(("/", "~")) and ":" not in url.partition("/")[0]
        if relative and self.root is not None:
            return str(self.root / url)
        return url

    def driver_options(self, remote: str) -> dict[str, str]:
        """Return a driver's options for a remote (see `drivers.base.Driver.open`)."""
        names = ("profile", "region", "endpoint", "service_account")
        options = {name: self.text(f"remotes.{remote}.{name}") for name in names}
        environment = self.environment
        if f"remotes.{remote}.endpoint" not in self.flags:
            options["endpoint"] = environment.get("AWS_ENDPOINT_URL_S3") or options["endpoint"]
        options["region"] = options["region"] or environment.get("AWS_DEFAULT_REGION", "")
        options["ca_bundle"] = environment.get("AWS_CA_BUNDLE", "")
        options["private_hosts"] = self.text("private_hosts")
        if emulator := environment.get("STORAGE_EMULATOR_HOST"):
            options["emulator"] = emulator if "://" in emulator else f"http://{emulator}"
        for option, variables in _PROXIES.items():
            given = (environment.get(name) for name in (*variables, *map(str.upper, variables)))
            options[option] = next(filter(None, given), "")
        if environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"):
            options["access_key_id"] = environment["AWS_ACCESS_KEY_ID"]
            options["secret_access_key"] = environment["AWS_SECRET_ACCESS_KEY"]
            options["session_token"] = environment.get("AWS_SESSION_TOKEN", "")
        if self.single_writer(remote):
            options["conditions"] = "none"
        return {name: value for name, value in options.items() if value} | {**self.connection}

    def chosen(self, remote: str) -> Choice | None:
        """Return the choice of credentials that only `.dorkyrc` makes; None if there is none.

        Options that the user has typed, set in the environment or written into
        ``~/.dorky/config`` are the user's own choice.
        """
        if self.root is None:
            return None
        given = self.driver_options(remote)
        found = {}
        for name in ("endpoint", "profile"):
            key = f"remotes.{remote}.{name}"
            value = self.find(key)
            if value is None or value.source != str(self.path("project")):
                continue
            if name == "endpoint" and self.environment.get("AWS_ENDPOINT_URL_S3"):
                continue
            if given.get(name) == value.value != self._read()["user"].get(key):
                found[name] = str(value.value)
        if "access_key_id" in given:  # no profile is used
            found.pop("profile", None)
        return choice(self.url(remote), **found)

    def named(self, remote: str) -> str:
        """Return the URL and endpoint from `.dorkyrc` (or a command line), for comparison."""
        held = {**self._read().get("project", {}), **self.flags}
        return "\0".join(str(held.get(f"remotes.{remote}.{name}", "")) for name in _PLACE)

    def named_outside(self, remote: str) -> bool:
        """Return whether a remote's URL comes from the user's environment or own file."""
        found = self.find(f"remotes.{remote}.url")
        if found is None or found.key in self.flags:
            return False
        return self.root is None or found.source != str(self.path("project"))

    def single_writer(self, remote: str) -> bool:
        """Return whether the remote's owner says that nobody else ever writes to it."""
        return self.get(f"remotes.{remote}.single_writer") is True

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Return the rules for signatures: all of the project's and the user's hold.

        So the user's own can only demand more.
        """
        self._read()
        found = read_rules(self.path("project")) if self.root is not None else ()
        try:
            own = read_rules(self.path("user"))
        except errors.NoHome:
            return found
        return (*found, *(rule._replace(own=True) for rule in own))

    @property
    def cache(self) -> str:
        """Return which of the pushed contents the local store keeps, too (see `CACHES`).

        `.dorkyrc` can ask for more than the user has chosen, but not for less.
        """
        found = self._read()
        own = str(found["user"].get("cache", "small"))
        asked = str(found.get("project", {}).get("cache", own))
        return max(own, asked, key=CACHES.index)

    @property
    def client_cache(self) -> Path | None:
        """Return where clients without a worktree keep what they have read; None: nowhere."""
        named = self.text("client_cache")
        if named.lower() in _NO:
            return None
        if named and named.lower() not in _YES:
            return files.expanded(named).absolute()
        return self.user_cache

    @property
    def user_cache(self) -> Path | None:
        """Return the directory in which dorky caches for this user; None if there is none."""
        try:
            home = self.home.parent
            # As root in another user's home, no files are left that this user can't delete.
            if home.stat().st_uid != os.geteuid():
                return None
        except (OSError, errors.NoHome):
            return None
        if sys.platform == "darwin":
            return home / "Library" / "Caches" / "dorky"
        given = self.environment.get("XDG_CACHE_HOME", "")
        return (Path(given) if given.startswith("/") else home / ".cache") / "dorky"

    @property
    def client_cache_max_size(self) -> int:
        """Return the bytes that `client_cache` takes at most.

        Raises:
            UsageError: It is less than 1 MiB.
        """
        found = self.find("client_cache_max_size")
        size = int(str(found.value)) if found else _CACHE
        if size < _LEAST_CACHE:
            raise errors.UsageError(f"client_cache_max_size is at least 1 MiB, not {size:,} bytes")
        return size

    # --- who -------------------------------------------------------------------------------

    @property
    def owners(self) -> frozenset[int]:
        """Return the users whose files are the user's own (see `ownership.users`)."""
        return ownership.users(self.environment)

    @property
    def login(self) -> str:
        """Return the name of the account that runs this process."""
        import getpass

        try:
            return getpass.getuser()
        except (KeyError, OSError):  # a minimal container without an entry for this user
            return "unknown"

    @property
    def identity_text(self) -> str:
        """Return the age identity given in the environment itself; empty if there is none."""
        return self.environment.get("DORKY_IDENTITY", "")

    @property
    def state_directory(self) -> Path | None:
        """Return the directory that DORKY_DIR names for the local state, instead of `.dorky/`."""
        named = self.environment.get("DORKY_DIR", "")
        return Path(named) if named else None

    @property
    def given_identity(self) -> str:
        """Return the identity from the environment, or the file that it names; empty if none."""
        named = self.environment.get("DORKY_IDENTITY_FILE", "")
        if self.identity_text or not named:
            return self.identity_text
        try:
            path = files.expanded(named)
            if not path.is_file():  # a pipe can be read only once, by the code that opens the keys
                return ""
            with path.open("rb") as file:
                return file.read(_LIMIT).decode(errors="surrogateescape")
        except (OSError, errors.SetupError):  # the code that needs the identity reports it
            return ""

    @property
    def passphrase(self) -> str:
        """Return the repository's passphrase from the environment, if it is set."""
        return self.environment.get("DORKY_PASSPHRASE", "")

    @property
    def ssh_passphrase(self) -> str:
        """Return the passphrase of the user's SSH key from the environment, if it is set."""
        return self.environment.get("DORKY_SSH_PASSPHRASE", "")

    @property
    def ssh_keys(self) -> list[Path]:
        """Return the user's existing SSH keys with the names that ssh looks for.

        Of those that dorky can't use, some are of types that age does not know.
        """
        try:
            directory = self.home.parent / ".ssh"
        except errors.NoHome:
            return []
        candidates = [directory / name for name in _SSH_NAMES]
        return [path for path in candidates if path.is_file()]

    @property
    def identity_path(self) -> Path:
        """Return the path of the age identity file, whether it exists or not."""
        named = self.text("identity")
        if not named:
            return self.home / "identity"
        try:
            return files.expanded(named)
        except errors.SetupError:  # ~somebody
            raise errors.IdentityMissing(named) from None

    # --- the session -----------------------------------------------------------------------

    @property
    def inheritable(self) -> dict[str, str]:
        """Return the environment for other programs, without variables that open repositories."""
        return child_environment(self.environment)

    @property
    def search_path(self) -> str:
        """Return the directories in which commands are looked for."""
        return self.environment.get("PATH", os.defpath)

    @property
    def editor(self) -> str:
        """Return the command line that edits files; empty if none is set."""
        return self.environment.get("VISUAL") or self.environment.get("EDITOR") or ""

    @property
    def memory(self) -> Path | None:
        """Return a directory whose files are in memory, not on a disk; None if there is none."""
        for place in (self.environment.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):  # noqa: S108
            # A file can't be searched, and a name that is too long is no error of this.
            if place.startswith("/") and os.access(f"{place}/.", os.W_OK | os.X_OK):
                return Path(place)
        return None
