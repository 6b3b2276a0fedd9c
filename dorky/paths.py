"""Paths: their parents, patterns that select them, a few of them in words, and names of secrets."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import PurePosixPath


def parents(path: str) -> Iterator[str]:
    """Yield the directories above a path, outermost first."""
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)


def is_text(path: str) -> bool:
    """Return whether a path, or a pattern, is UTF-8, as every path that can be kept is."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_below(path: str, directories: AbstractSet[str]) -> bool:
    """Return whether a path lies in one of some directories."""
    return bool(directories) and not directories.isdisjoint(parents(path))


def shown(paths: Sequence[str]) -> str:
    """Return a few paths, or other names, in words for a message."""
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(path or "." for path in paths[:3]) + more


def matches(path: str, pattern: str) -> bool:
    """Return whether a path matches a shell pattern: ``*`` in a name, ``**`` for directories."""
    return [False, *_reached(path, pattern)][-1]


def selector(given: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that tells whether paths, directories or patterns select a path.

    Args:
        given: Paths; an empty one selects everything, none at all nothing.
    """
    names = frozenset(given)
    if "" in names:
        return lambda _: True
    return lambda path: (
        path in names or is_below(path, names) or any(matches(path, each) for each in names)
    )


def _reached(path: str, pattern: str) -> Iterator[bool]:
    """Yield whether each directory above a path matches, outermost first, and then the path itself.

    All alternatives are followed at once, as numbers of names of the pattern: patterns come from
    others, and backtracking takes exponential time for some.
    """
    names = PurePosixPath(pattern).parts

    def beyond(at: set[int]) -> set[int]:
        for n, name in enumerate(names):
            if n in at and name == "**":  # `**` may match no directory
                at.add(n + 1)
        return at

    at = beyond({0})
    for part in PurePosixPath(path).parts:
        more = [n for n in at if n < len(names)]
        stay = {n for n in more if names[n] == "**"}
        at = beyond(stay | {n + 1 for n in more if fnmatch.fnmatchcase(part, names[n])})
        yield len(names) in at


# --- files that most likely hold secrets ----------------------------------------------------

# After the path rules of gitleaks, and what tools call their files. Names that source code has,
# too (`auth.json`), are left out. No regular expression: every command would compile it.
_NAME_LIST = (
    ".envrc .dev.vars .secret .secrets .renviron "
    ".netrc _netrc .pgpass pgpass.conf .my.cnf .mylogin.cnf .htpasswd .htdigest .passwd-s3fs "
    ".git-credentials .npmrc .pypirc .dockercfg .dockerconfigjson .s3cfg .boto "
    ".vault-token .vault_pass .vault_password vault_pass.txt .terraformrc terraform.rc "
    ".databrickscfg .sentryclirc .clasprc.json .kubeconfig kubeconfig kubeconfig.yaml "
    "kubeconfig.yml talosconfig credentials credentials.json credentials.toml "
    "credentials.xml credentials.ini credentials.yml credentials.yaml credentials.csv "
    "credentials.tfrc.json credentials-config.json client_secret.json client_secrets.json "
    "application_default_credentials.json local.settings.json wp-config.php "
    "sftp-config.json recentservers.xml accesskeys.csv rootkey.csv"
)
_NAMES = frozenset(_NAME_LIST.split())
_SSH_KEYS = ("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_xmss")
_BEGINNINGS = (".env.", ".dev.vars.")
_END_LIST = (
    ".env .pem .key .p8 .p12 .pfx .pkcs12 .ppk .jks .bks .keystore .keychain .keytab .kdb "
    ".kdbx .agekey .ovpn .tfstate .tfstate.backup .tfvars .tfvars.json .kubeconfig "
    "_accesskeys.csv"
)
_ENDS = tuple(_END_LIST.split())
_SERVICE_ACCOUNTS = ("service-account", "service_account", "serviceaccount", "client_secret_")
_SECRETS = frozenset(
    f"{word}.{ending}"
    for word in ("secret", "secrets")
    for ending in ("json", "toml", "yml", "yaml", "ini", "xml", "properties", "txt", "enc", "conf")
)
_HARMLESS_LIST = (
    ".example .sample .template .tmpl .tpl .dist .default .pub .md .enc .sops .gpg .age "
    ".example.env .sample.env .template.env .d.ts"
)
_HARMLESS = tuple(_HARMLESS_LIST.split())
_PUBLIC_BLOCKS = (b"CERTIFICATE", b"PUBLIC KEY", b"X509 CRL", b"DH PARAMETERS", b"EC PARAMETERS")
OFTEN_PUBLIC = (".pem", ".key", ".npmrc")
"""The ends of names for which only the contents tell."""
LOOKED_AT = 64 * 1024
"""The bytes at the beginning of a file that are looked at."""


def looks_secret(name: str) -> bool:
    """Return whether a file with this name, without its directory, most likely holds a secret."""
    name = name.lower()
    if name.endswith(_HARMLESS):
        return False
    return (
        name in _NAMES
        or name in _SECRETS
        or name.endswith(_ENDS)
        or name.startswith(_BEGINNINGS)
        or (name.startswith(_SSH_KEYS) and "." not in name)
        or (name.endswith(".json") and name.startswith(_SERVICE_ACCOUNTS))
        or (name.endswith(".json") and "-firebase-adminsdk-" in name)
    )


# After GitHub's linguist: the languages of most repositories, and the manifests of their tools.
_SOURCE_END_LIST = (
    ".py .pyi .ipynb .js .mjs .cjs .jsx .ts .tsx .vue .svelte .css .scss .less .go .rs .rb .php "
    ".java .kt .kts .scala .groovy .gradle .swift .c .h .cc .cpp .cxx .hh .hpp .cs .fs .vb .dart "
    ".ex .exs .erl .hs .ml .clj .lua .pl .pm .jl .zig .proto .tf"
)
_SOURCE_ENDS = tuple(_SOURCE_END_LIST.split())
_MANIFEST_LIST = (
    "makefile dockerfile jenkinsfile rakefile gemfile pipfile procfile cmakelists.txt "
    "package.json package-lock.json tsconfig.json yarn.lock pyproject.toml setup.cfg "
    "requirements.txt cargo.toml cargo.lock go.mod go.sum pom.xml composer.json"
)
_MANIFESTS = frozenset(_MANIFEST_LIST.split())


def looks_like_source(name: str) -> bool:
    """Return whether a file with this name, without its directory, most likely is source code."""
    name = name.lower()
    return (name.endswith(_SOURCE_ENDS) or name in _MANIFESTS) and not looks_secret(name)


def is_public(name: str, data: bytes) -> bool:
    """Return whether the beginning of a file shows that a name like a secret's misleads."""
    name = name.lower()
    if name.endswith((".pem", ".key")):
        blocks = data.split(b"-----BEGIN ")[1:]
        return bool(blocks) and all(block.startswith(_PUBLIC_BLOCKS) for block in blocks)
    if name == ".npmrc":
        return b"_auth" not in data and b"_password" not in data
    return False


def holds_secret(data: bytes) -> bool:
    """Return whether a text holds a private key, or values under names like those of secrets."""
    head = data[:LOOKED_AT]
    if b"PRIVATE KEY-----" in head or b"AGE-SECRET-KEY-1" in head:
        return True
    secret = (
        rb"""(?im)^[^\S\n]*(?:export\s+)?["']?[\w.-]*(?:passwd|passwor[dt]|passphrase|secret|token"""
        rb"""|api[_-]?key|access[_-]?key|private[_-]?key|credential)[\w.-]*["']?[^\S\n]*[:=]+[^\S\n]*\S"""
    )
    if re.search(secret, head):
        return True
    lines = [line.strip() for line in head.splitlines()]
    told = [line for line in lines if line and line[:1] != b"#"]
    assigned = re.compile(rb"(?:export\s+)?[A-Z][A-Z0-9_]*=")
    return bool(told) and sum(bool(assigned.match(line)) for line in told) * 2 > len(told)
