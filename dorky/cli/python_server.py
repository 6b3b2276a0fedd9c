"""Commands that serve Python packages: python serve, python run, python token."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, List, NamedTuple  # noqa: UP035

import typer

from dorky import errors
from dorky.cli.command import Json
from dorky.cli.output import Settings as Output
from dorky.cli.output import name, note, say, show_json
from dorky.cli.python_depot import USUAL_DIR, extra

if TYPE_CHECKING:
    from dorky.extras.index.depot import Depot
    from dorky.extras.index.operations import Log
    from dorky.extras.index.serving import Service
    from dorky.extras.index.state import Newest
    from dorky.extras.index.upstream import Upstream

_NEWEST = {"", "main", "origin/main"}
_PART = 8 << 20
"""The bytes of the packs of a large upload, of which several are in memory."""
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_PORTS = range(20_000, 30_000)
"""Below those that systems give to outgoing connections."""
# What would let installers look elsewhere, too.
_ELSEWHERE = (
    *("PIP_NO_INDEX", "PIP_FIND_LINKS", "UV_NO_INDEX", "UV_FIND_LINKS"),
    *("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX_STRATEGY"),
)
_TOKENS = ("DEPOT_AUTH_TOKEN", "DEPOT_UPSTREAM_TOKEN")
_NO_PROXY = ("NO_PROXY", "no_proxy")

Dir = Annotated[
    str,
    typer.Option(
        "--dir",
        metavar="DIR",
        help="The packages' directory: on the disk, or with --rev or --remote in the repository.",
        envvar="DEPOT_PYTHON_DIR",
        show_envvar=True,
    ),
]
Rev = Annotated[
    str, typer.Option("--rev", metavar="REV", help="origin/main (the newest), or a commit's id.")
]
Remote = Annotated[
    str,
    typer.Option(
        "--remote", metavar="URL", help="The repository; the project's if it is not given."
    ),
]
Plain = Annotated[bool, typer.Option("--plain", help="The repository may be unencrypted.")]
UpstreamURL = Annotated[
    str,
    typer.Option(
        "--upstream", metavar="URL", help="An index for projects that are not here: off by default."
    ),
]
Private = Annotated[
    List[str] | None,  # noqa: UP006
    typer.Option(
        "--private", metavar="PATTERN", help="Names never asked for upstream; may be repeated."
    ),
]


class _Wanted(NamedTuple):
    """The place that the command line names.

    Attributes:
        directory: The packages' directory; empty: the usual one.
        rev: The version of the repository.
        remote: The repository.
        plain: Whether it may be unencrypted.
        named: Whether the directory was named on the command line.
    """

    directory: str
    rev: str
    remote: str
    plain: bool
    named: bool


class _Place(NamedTuple):
    """A place with packages: a directory, or a repository."""

    state: Newest
    depot: Depot | None
    name: str


def serve(
    context: typer.Context,
    directory: Dir = "",
    rev: Rev = "",
    remote: Remote = "",
    plain: Plain = False,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any.")] = 8080,
    write: Annotated[bool, typer.Option("--write", help="Take uploads.")] = False,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="FILE", help="Who may read and write.")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="A certificate, for TLS.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="The certificate's key.")
    ] = None,
    trust_proxy: Annotated[
        int,
        typer.Option("--trust-proxy", metavar="N", min=0, help="How many proxies stand before it."),
    ] = 0,
    upstream: UpstreamURL = "",
    private: Private = None,
    threads: Annotated[
        int, typer.Option(min=1, max=1000, help="The requests that are answered at once.")
    ] = 16,
    refresh: Annotated[
        str, typer.Option(metavar="TIME", help="How long a state is shown, such as 10s or 1m.")
    ] = "10s",
    max_upload: Annotated[
        str, typer.Option("--max-upload", metavar="SIZE", help="The largest file to take.")
    ] = "2GiB",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve others without TLS or tokens.")
    ] = False,
) -> None:
    """Serve Python packages to pip, uv and twine.

    In a project, it serves what the remote holds, and follows it; files are decrypted as they are
    sent, and nothing is written to the disk. Elsewhere, or with --dir alone, it serves a directory.
    Each request is a line of JSON on the standard output. SIGHUP reads the token file and the
    certificate again, SIGTERM ends when uploads under way are done.

    \b
    $ dorky python serve
    $ dorky python serve --write --token-file tokens
    $ dorky python serve --upstream https://pypi.org/simple/ --private 'acme-*'
    """
    with extra():
        from dorky.extras.index import serving
        from dorky.extras.index.operations import Log

    settings = serving.Settings(
        host=host,
        port=port,
        tokens=token_file,
        certificate=tls_cert,
        key=tls_key,
        proxies=trust_proxy,
        threads=threads,
        max_upload=_bytes(max_upload),
        refresh=_seconds(refresh),
        insecure=insecure,
    )
    serving.check(settings, write=write)
    log = Log(sys.stdout, requests=not Output.quiet)
    wanted = _Wanted(directory, rev, remote, plain, named=_given(context))
    with _opened(wanted, settings.refresh, log) as place:
        if write and place.depot is None:
            raise errors.UsageError(
                f"{place.name} is only served: an upload is a commit in a repository",
                hint="leave --dir and the commit out, or name the repository by --remote",
            )
        # This reads the packages before the first client waits for them.
        _tell_if_empty(place, directory, upstream)
        service = serving.Service(
            settings,
            place.state,
            depot=place.depot if write else None,
            upstream=_upstream(upstream, private),
            log=log,
        )
        serving.run(service, lambda: note(f"Serving {name(place.name)} at {service.url}"))


def run(
    context: typer.Context,
    command: Annotated[
        List[str],  # noqa: UP006
        typer.Argument(metavar="-- COMMAND…", help="The program to run, and its arguments."),
    ],
    directory: Dir = "",
    rev: Rev = "",
    remote: Remote = "",
    plain: Plain = False,
    upstream: UpstreamURL = "",
    private: Private = None,
) -> None:
    """Run pip, uv or a script with the packages as its one index, without a server elsewhere.

    The packages are served on this machine while the command runs, to it alone: its environment has
    the index's URL, with a token that is valid until it ends. Other indexes are not asked, unless
    --upstream names one. The exit code is the command's.

    \b
    $ dorky python run -- pip install acme-core
    $ dorky python run --upstream https://pypi.org/simple/ -- uv sync
    """
    with extra():
        from dorky.extras.index import auth, serving
        from dorky.extras.index.operations import Log
    from dorky import process
    from dorky.config import Config

    config = Config(None)
    inherited, file = config.inheritable, process.find(command[0], config.search_path)
    log = Log(sys.stderr, requests=False, events=False)
    wanted = _Wanted(directory, rev, remote, plain, named=_given(context))
    settings, token = serving.Settings(), auth.made()
    with _opened(wanted, settings.refresh, log) as place:
        _tell_if_empty(place, directory, upstream)
        access, other = auth.only("run", token), _upstream(upstream, private)

        def made(port: int) -> Service:
            own = settings._replace(port=port)
            return serving.Service(own, place.state, access=access, upstream=other, log=log)

        service = _started(made, place.name)
        try:
            variables = _variables(service.url, token, inherited)
            code = process.attend(file, command, process.environment(variables, {}))
        finally:
            service.stop()
    # With typer's exit, 130 would count as an interruption of dorky.
    sys.exit(code)


def token(
    label: Annotated[str, typer.Argument(metavar="NAME", help="What or whom it is for.")],
    write: Annotated[bool, typer.Option("--write", help="For uploads, too.")] = False,
    expires: Annotated[
        str, typer.Option(metavar="WHEN", help="Its last day: 2027-01-31, or 90d from now.")
    ] = "",
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Add it to this token file.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a token for python serve, and print it, once. The token file holds only its hash.

    \b
    $ dorky python token ci --write --expires 90d --file tokens
    $ dorky python token laptop --file tokens
    """
    with extra():
        from dorky.extras.index import auth

    last = _day(expires)
    made = auth.new(label, write=write, expires=last)
    if file:
        auth.append(file, made.line)
    if json:
        show_json(made)
        return
    if not file:
        note(f"Add this line to the token file:\n{made.line}")
    say(made.token)


# --- what is served -------------------------------------------------------------------------


def _given(context: typer.Context) -> bool:
    """Return whether the directory was named on the command line."""
    source = context.get_parameter_source("directory")
    return source is not None and source.name == "COMMANDLINE"


@contextmanager
def _opened(wanted: _Wanted, age: float, log: Log) -> Iterator[_Place]:
    """Open a place.

    Args:
        wanted: The place.
        age: The seconds for which a state is shown.
        log: Is told of failures.
    """
    from dorky.client import DorkyClient
    from dorky.extras.index import state
    from dorky.extras.index.depot import Depot
    from dorky.extras.index.storage import Directory
    from dorky.extras.index.storage import Remote as Repository

    directory = wanted.directory or USUAL_DIR
    alone = wanted.named and not (wanted.rev or wanted.remote)
    if alone or not (wanted.rev or wanted.remote or _has_repository()):
        if not Path(directory).is_dir():
            if not alone:
                raise errors.NotARepository(Path.cwd())
            hint = "check its path; without --dir, the project's packages are served"
            raise errors.PathNotFound(directory, hint=hint)
        yield _Place(state.of_directory(Directory(Path(directory))), None, directory)
        return
    pinned = "" if wanted.rev in _NEWEST else wanted.rev
    if pinned and not re.fullmatch(r"[0-9a-f]{64}", pinned):
        raise errors.UnknownRevision(pinned)

    def failed(error: errors.DorkyError) -> None:
        log.error(f"no newer state: {error.code}: {error.message}")

    prefix = directory.strip("/").removeprefix("./")
    unencrypted = wanted.plain or None
    with DorkyClient(wanted.remote or None, unencrypted=unencrypted, part_size=_PART) as client:
        newest = state.of_client(client, prefix, pinned=pinned, refresh=age, failed=failed)
        try:
            newest.view()  # a missing key is told now, not to the first client
        except errors.UnencryptedRepository as error:
            error.facts["hint"] = "ask the person who set it up; if it is meant: add --plain"
            raise
        depot = None if pinned else Depot(Repository(client, prefix))
        yield _Place(newest, depot, f"{client.url} ({prefix})")


def _tell_if_empty(place: _Place, directory: str, upstream: str) -> None:
    """Say that there are no packages: installers say so of one project, and not why."""
    if place.state.view().depot.projects() or upstream:
        return
    command = f"dorky save {shlex.quote(directory or USUAL_DIR)}"
    more = f"; to commit and push yours: {command}" if place.depot else ""
    note(f"No packages in {name(place.name)}{more}")


def _has_repository() -> bool:
    from dorky.config import Config
    from dorky.project import Project

    named = ("DORKY_URL", "DORKY_BUCKET")
    environment = Config(None).environment
    return any(map(environment.get, named)) or Project.root_above(Path()) is not None


def _upstream(url: str, private: List[str] | None) -> Upstream | None:  # noqa: UP006
    from dorky.config import Config
    from dorky.extras.index.upstream import Upstream

    if not url:
        if private:
            raise errors.UsageError("--private keeps names from an upstream index: add --upstream")
        return None
    return Upstream(url, private or (), Config(None).environment.get("DEPOT_UPSTREAM_TOKEN", ""))


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d{1,9})\s*(KiB|MiB|GiB|)", text)
    if not found or not int(found[1]):
        raise errors.UsageError("a size is a number, with KiB, MiB or GiB")
    return int(found[1]) * _UNITS[found[2]]


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,6})(s|m|)", text)
    if not found:
        raise errors.UsageError("a time is a number, with s or m")
    return int(found[1]) * (60 if found[2] == "m" else 1)


def _day(text: str) -> date | None:
    if not text:
        return None
    if found := re.fullmatch(r"(\d{1,4})d", text):
        return datetime.now(timezone.utc).date() + timedelta(days=int(found[1]))
    try:
        last = date.fromisoformat(text)
    except ValueError:
        raise errors.UsageError("a day is such as 2027-01-31, or 90d") from None
    if last < datetime.now(timezone.utc).date():
        raise errors.UsageError(f"{text} is past, and so would the token be")
    return last


# --- a command with its own index -----------------------------------------------------------


def _started(made: Callable[[int], Service], place: str) -> Service:
    """Start a server on the port that this place has on every machine, or on another.

    Caches and lock files of installers name an index by its URL, so it must not change each time.
    """
    import hashlib

    own = int.from_bytes(hashlib.sha256(place.encode()).digest()[:4], "big") % len(_PORTS)
    for port in (_PORTS[own], 0):
        service = made(port)
        try:
            service.start()
            return service
        except errors.UsageError:
            if not port:
                raise
    raise AssertionError


def _variables(url: str, token: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command that is to have no other index."""
    index = url.replace("://", f"://dorky:{token}@", 1)
    # pip's files may name more indexes; the variable takes their place.
    own = {
        "PIP_INDEX_URL": index,
        "PIP_EXTRA_INDEX_URL": index,
        "UV_DEFAULT_INDEX": index,
        "UV_INDEX_URL": index,
    }
    around = {key: ",".join(filter(None, (inherited.get(key), "127.0.0.1"))) for key in _NO_PROXY}
    kept = {key: value for key, value in inherited.items() if key not in (*_ELSEWHERE, *_TOKENS)}
    return {**kept, **around, **own}
