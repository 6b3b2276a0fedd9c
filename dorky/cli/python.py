"""Commands on Python packages: those that look at a directory of them, and those that fill it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, List, Literal  # noqa: UP035

import typer

from dorky import errors
from dorky.cli import output, python_server
from dorky.cli.command import Command, Json
from dorky.cli.output import TerminalProgress, name, note, plural, say, show_json, size
from dorky.cli.python_depot import USUAL_DIR, Dir, depot_in, extra
from dorky.results import PythonFile, PythonProject, PythonRemoval, PythonTransfer

if TYPE_CHECKING:
    from dorky.extras.index.depot import Project

_Name = Annotated[str, typer.Argument(metavar="NAME", help="The project.")]
_Version = Annotated[str, typer.Argument(metavar="NAME==VERSION", help="The version.")]

app = typer.Typer(
    no_args_is_help=True, help="Keep Python packages, and be their index for pip and uv."
)
app.command("serve", cls=Command)(python_server.serve)
app.command(
    "run",
    cls=Command,
    # From the first word on, options are those of the other program.
    context_settings={"allow_interspersed_args": False},
)(python_server.run)
app.command("token", cls=Command)(python_server.token)


def _told(project: Project) -> PythonProject:
    """Return a project as commands print it."""
    return PythonProject(
        name=project.name,
        status=project.status.status,
        reason=project.status.reason,
        versions=project.versions,
        files=tuple(
            PythonFile(
                filename=entry.filename,
                version=entry.version,
                size=entry.size,
                sha256=entry.sha256,
                upload_time=entry.upload_time,
                requires_python=entry.requires_python,
                yanked=entry.yanked is not False,
                reason=entry.yanked if isinstance(entry.yanked, str) else "",
                source=entry.source,
            )
            for entry in project.files
        ),
    )


@app.command("list", cls=Command)
def list_(directory: Dir = "", json: Json = False) -> None:
    """List the projects, with their versions.

    \b
    $ dorky python list
    $ dorky python list --dir vendor/python --json
    """
    depot = depot_in(directory)
    found = [_told(depot.project(project)) for project in depot.projects()]
    if json:
        show_json(found)
        return
    for project in found:
        count = f"{plural(len(project.files), 'file')}, {size(_size(project.files))}"
        status = "" if project.status == "active" else f"  {project.status}"
        say(f"{name(project.name)} {project.versions[-1]}  ({count}){status}")
    if not found:
        note(f"No packages in {name(depot.place)}.")


def _size(files: tuple[PythonFile, ...]) -> int:
    return sum(file.size for file in files)


@app.command("show", cls=Command)
def show(project: _Name, directory: Dir = "", json: Json = False) -> None:
    """Show a project: its status, its versions, and their files.

    \b
    $ dorky python show jinja2
    $ dorky python show acme-core --json
    """
    _show(_told(depot_in(directory).project(project)), json=json)


def _show(found: PythonProject, *, json: bool) -> None:
    if json:
        show_json(found)
        return
    reason = f" ({name(found.reason)})" if found.reason else ""
    say(f"{name(found.name)}: {found.status}{reason}")
    for file in found.files:
        yanked = (
            f"  yanked{f' ({name(file.reason)})' if file.reason else ''}" if file.yanked else ""
        )
        needs = f"  Python {name(file.requires_python)}" if file.requires_python else ""
        say(
            f"  {file.upload_time:%Y-%m-%d}  {size(file.size):>10}  {name(file.filename)}"
            f"{needs}{yanked}"
        )


def _parts(text: str) -> tuple[str, str]:
    """Return the parts of ``NAME==VERSION``; the version is empty if there is none."""
    project, _, version = text.partition("==")
    return project.strip(), version.strip()


@app.command("yank", cls=Command)
def yank(
    target: _Version,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Say why.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Offer it again.")] = False,
    directory: Dir = "",
    json: Json = False,
) -> None:
    """Yank a version: installers take it only if exactly this version is asked for.

    \b
    $ dorky python yank acme-core==1.4.0 --reason "loses data"
    $ dorky python yank acme-core==1.4.0 --undo
    """
    project, version = _parts(target)
    if not version:
        raise errors.UsageError(f"{target} is not NAME==VERSION")
    if reason and undo:
        raise errors.UsageError("--reason and --undo exclude each other")
    found = _told(depot_in(directory).yank(project, version, reason, undo=undo))
    if json:
        show_json(found)
    else:
        say(f"{'Offered again' if undo else 'Yanked'}: {name(found.name)} {name(version)}")


@app.command("remove", cls=Command)
def remove(
    target: Annotated[
        str, typer.Argument(metavar="NAME[==VERSION]", help="A project, or one version of it.")
    ],
    directory: Dir = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Json = False,
) -> None:
    """Remove a version's files, or a project.

    A version that others have pinned is better yanked: `dorky python yank`. The history keeps
    every version that was committed.

    \b
    $ dorky python remove acme-core==1.4.0 --dry-run
    $ dorky python remove acme-core==1.4.0
    """
    project, version = _parts(target)
    if "==" in target and not version:
        raise errors.UsageError(f"{target} is not NAME==VERSION")
    depot = depot_in(directory)
    planned = depot.plan_removal(project, version)
    if not dry_run:
        what = f"{plural(len(planned.files), 'file')} of {name(planned.name)}"
        if not yes and not output.agree(f"Remove {what} ({size(planned.size)})?"):
            raise errors.NotConfirmed("removed")
        planned = depot.remove(project, version)
    if json:
        show_json(planned)
        return
    say(_removed(planned))
    output.listing(planned.files, name)


def _removed(plan: PythonRemoval) -> str:
    verb = "Removed" if plan.done else "Would remove"
    return f"{verb} {plural(len(plan.files), 'file')} of {name(plan.name)} ({size(plan.size)})"


@app.command("status", cls=Command)
def status(
    project: _Name,
    state: Annotated[
        Literal["active", "archived", "quarantined", "deprecated"],
        typer.Argument(metavar="STATUS", help="active, archived, quarantined or deprecated."),
    ],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Say why.")] = "",
    directory: Dir = "",
    json: Json = False,
) -> None:
    """Give a project a status, which installers show.

    An archived project takes no more files. The files of a quarantined one are not offered.

    \b
    $ dorky python status acme-core archived --reason "use acme-next"
    """
    found = _told(depot_in(directory).set_status(project, state, reason))
    if json:
        show_json(found)
    else:
        say(f"{name(found.name)}: {found.status}")


_ARCHIVES = (".whl", ".tar.gz", ".zip")
_LISTS = {".txt", ".in", ".toml"}
_Paths = List[Path] | None  # noqa: UP006 - typer reads it at run time
_Texts = List[str] | None  # noqa: UP006


@app.command("save", cls=Command)
def save(
    requirements: Annotated[
        _Texts,
        typer.Argument(metavar="[REQ|FILE]...", help="Requirements, or wheels and sdists."),
    ] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read requirements from standard input, too.")
    ] = False,
    files: Annotated[
        _Paths, typer.Option("-r", metavar="FILE", help="A file of requirements; repeatable.")
    ] = None,
    constraints: Annotated[
        _Paths, typer.Option("-c", metavar="FILE", help="A file of constraints; repeatable.")
    ] = None,
    lock: Annotated[
        Path | None, typer.Option("--lock", metavar="FILE", help="Fetch what a pylock.toml names.")
    ] = None,
    directory: Dir = "",
    python_versions: Annotated[
        _Texts,
        typer.Option("--python-version", metavar="V", help="For this Python; repeatable."),
    ] = None,
    platforms: Annotated[
        _Texts,
        typer.Option("--platform", metavar="NAME", help="For this platform; repeatable."),
    ] = None,
    sdist: Annotated[
        bool, typer.Option("--sdist", help="Source distributions, too: building one runs its code.")
    ] = False,
    no_deps: Annotated[
        bool, typer.Option("--no-deps", help="Leave out what the requirements depend on.")
    ] = False,
    require_hashes: Annotated[
        bool,
        typer.Option("--require-hashes", help="Only files whose hash the requirements name."),
    ] = False,
    index_url: Annotated[
        str,
        typer.Option(
            "--index-url", metavar="URL", help="The index; else UV_DEFAULT_INDEX, or PyPI."
        ),
    ] = "",
    uploaded_prior_to: Annotated[
        str,
        typer.Option("--uploaded-prior-to", metavar="DATE", help="Only files older than this."),
    ] = "",
    json: Json = False,
) -> None:
    """Save packages with all that they depend on: all of them, or none.

    uv resolves the requirements for each Python and platform that is named. The files are fetched
    from the index and checked against its hashes. A wheel or sdist on the disk is added as it is,
    and nothing is looked up for it. Run it again at any time: it fetches what is missing.

    \b
    $ dorky python save jinja2==3.1.6
    $ dorky python save -r requirements.txt --python-version 3.12 --platform linux
    $ dorky python save dist/acme_core-1.4.0-py3-none-any.whl
    """
    depot = depot_in(directory)
    with extra():
        from dorky.extras.index import saving
        from dorky.extras.index.locks import Wanted
    from dorky.project import Project

    lines = [*(requirements or ()), *(_typed_in() if stdin else ())]
    local = [Path(line) for line in lines if line.endswith(_ARCHIVES) and "://" not in line]
    _check_paths([*local, *(files or ()), *(constraints or ()), *([lock] if lock else ())])
    words = [line for line in lines if Path(line) not in local]
    _check_words(words)
    wanted = Wanted(
        requirements=words,
        files=files or (),
        constraints=constraints or (),
        python_versions=python_versions or (),
        platforms=platforms or (),
        sdists=sdist,
        dependencies=not no_deps,
        index_url=index_url,
        uploaded_prior_to=uploaded_prior_to,
    )
    if not (lines or files or lock):
        raise errors.UsageError("nothing to save: name requirements, -r FILE, --lock or --stdin")
    done = saving.save(
        depot,
        wanted,
        lock=lock,
        local=local,
        require_hashes=require_hashes,
        progress=TerminalProgress(),
    )
    if json:
        show_json(done)
        return
    _transferred("Saved", "in", done)
    if done.added and Project.root_above(Path(done.place)):
        note(f"To commit and push them: dorky save {shlex.quote(done.place)}")


def _check_paths(paths: list[Path]) -> None:
    """Refuse files that are not there.

    Raises:
        PathNotFound: One is not.
    """
    for path in paths:
        if not path.exists():
            raise errors.PathNotFound(str(path), hint="check its path")


def _check_words(lines: list[str]) -> None:
    """Refuse paths among the requirements: a stranger may have registered such a name.

    Raises:
        UsageError: There is one.
    """
    for line in lines:
        path, word = Path(line), shlex.quote(line)
        if path.suffix and (path.is_file() or path.suffix in _LISTS):
            raise errors.UsageError(
                f"{line} is a file, and no requirement", hint=f"dorky python save -r {word}"
            )
        if path.is_dir() and any(path.glob("*.whl")):
            raise errors.UsageError(
                f"{line} is a directory, and no requirement", hint=f"dorky python save {word}/*"
            )
        if path.is_dir() and ("/" in line or line.startswith(".")):
            raise errors.UsageError(
                f"{line} is a directory, and no requirement",
                hint=f"python -m build {word}; then save the files that it makes",
            )


def _typed_in() -> list[str]:
    """Return the requirements on standard input.

    Raises:
        UsageError: There is an option.
    """
    lines = [line.partition(" #")[0].strip() for line in sys.stdin]
    found = [line for line in lines if line and not line.startswith("#")]
    if options := [line for line in found if line.startswith("-")]:
        raise errors.UsageError(f"standard input holds requirements alone, not {options[0]}")
    return found


def _transferred(verb: str, where: str, done: PythonTransfer) -> None:
    if done.added:
        count = f"{plural(len(done.added), 'file')} ({size(done.size)})"
        say(f"{verb} {count} {where} {name(done.place)}")
        output.listing(done.added, name)
    if done.kept:
        note(f"{plural(len(done.kept), 'file')} already there")


@app.command("push", cls=Command)
def push(
    url: Annotated[str, typer.Argument(metavar="URL", help="The index: https://…/simple/.")],
    packages: Annotated[
        _Texts, typer.Argument(metavar="[PACKAGE]...", help="The projects; all if none is named.")
    ] = None,
    token: Annotated[
        str,
        typer.Option(
            "--token",
            metavar="TOKEN",
            envvar="DEPOT_AUTH_TOKEN",
            show_envvar=False,
            help="Proves who you are. Others can see a command line: DEPOT_AUTH_TOKEN is better.",
        ),
    ] = "",
    directory: Dir = "",
    json: Json = False,
) -> None:
    """Push packages to an index that takes files by PUT, such as dorky python serve.

    What the index has already is not sent. Run it again at any time. Exits with 5 if the index has
    another file of that name, and with 6 if you may not push.

    \b
    $ dorky python push https://packages.acme.example/python/simple/
    $ dorky python push http://127.0.0.1:8080/python/simple/ acme-core
    """
    depot = depot_in(directory)
    with extra():
        from dorky.extras.index import pushing

    try:
        done = pushing.push(
            depot, url, token=token, projects=packages or (), progress=TerminalProgress()
        )
    except errors.AccessError as error:
        error.facts.setdefault("hint", "set DEPOT_AUTH_TOKEN to a token that may upload")
        raise
    except errors.NoSuchFile as error:
        error.facts.setdefault("hint", "name the index itself: https://HOST/python/simple/")
        raise
    if json:
        show_json(done)
    elif done.added or done.kept:
        _transferred("Pushed", "to", done)
    else:
        note(f"No packages in {name(depot.place)}.")


@app.command("index", cls=Command)
def index(
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="Where to: a directory, s3://… or gs://….")
    ],
    form: Annotated[
        Literal["json", "html"] | None,
        typer.Option(
            "--format",
            metavar="FORM",
            show_default=False,
            help="json or html; a directory gets html, a bucket json.",
        ),
    ] = None,
    presign: Annotated[
        str,
        typer.Option(
            "--presign",
            metavar="TIME",
            help="One page of links that are valid for TIME, such as 7d.",
        ),
    ] = "",
    base_url: Annotated[
        str,
        typer.Option("--base-url", metavar="URL", help="Where files are fetched, if elsewhere."),
    ] = "",
    directory: Dir = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Json = False,
) -> None:
    """Publish the packages as an index that needs no server of its own.

    Files and pages are written unencrypted: anyone who can read OUT can install the packages. With
    --presign the bucket stays private, and one page of presigned links is made for --find-links.

    \b
    $ dorky python index public/
    $ dorky python index s3://acme-packages/python
    $ dorky python index s3://acme-private/python --presign 7d
    """
    depot = depot_in(directory)
    with extra():
        from dorky.extras.index import publishing, sinks

    kept = Path(directory or USUAL_DIR).resolve()
    if "://" not in out and Path(out).resolve().is_relative_to(kept):
        raise errors.UsageError(
            f"{out} lies among the packages themselves",
            hint="name another directory: dorky python index public/",
        )
    span = publishing.duration(presign) if presign else None
    if span and (form or base_url):
        raise errors.UsageError("--presign makes one page of its own form, and its own addresses")
    sink = sinks.sink_at(out)
    if span:
        sink.presigned(publishing.LINKS, span)  # before anything is written: it may be impossible
        if sink.temporary:
            note("Your AWS credentials are temporary, and the links end with them.")
    planned = publishing.plan(depot)
    note(
        f"Anyone who can read {name(sink.place)} can read {plural(len(planned.files), 'file')}"
        f" ({size(planned.size)}) of {plural(len(planned.projects), 'project')}, unencrypted."
    )
    if gone := publishing.leaving(planned, sink):
        note(f"{plural(gone, 'published file')} will be deleted, because they are not in {kept}.")
    if not yes and not output.agree("Publish?"):
        raise errors.NotConfirmed("published")
    done = publishing.publish(
        depot,
        planned,
        sink,
        form=form or ("json" if "://" in out else "html"),
        base_url=base_url,
        presign=span,
        progress=TerminalProgress(),
    )
    if json:
        show_json(done)
        return
    published = f"Published {plural(done.files, 'file')} of {plural(done.projects, 'project')}"
    if done.url:  # alone on the standard output: LINKS=$(dorky python index …)
        note(f"{published}. Keep this address secret: it installs without any credentials.")
        say(done.url)
    else:
        say(published)
