"""Commands on the files of a remote, which need no worktree: upload, stat."""

from __future__ import annotations

from typing import Annotated, List  # noqa: UP035

import typer

from dorky import errors
from dorky.cli.command import Json
from dorky.cli.output import name, say, show_json, size

_Remote = Annotated[
    str,
    typer.Option(
        "--remote", help="The repository; the project's if it is not given.", metavar="URL"
    ),
]
_Plain = Annotated[bool, typer.Option("--plain", help="The repository may be unencrypted.")]


def upload(
    paths: Annotated[
        List[str],  # noqa: UP006 - typer reads it at run time
        typer.Argument(
            metavar="SRC... [DEST]", help="Files, then where they go in the repository."
        ),
    ],
    remote: _Remote = "",
    message: Annotated[str, typer.Option("--message", "-m", help="Say why.")] = "",
    metadata: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Option("--metadata", metavar="K=V", help="Metadata of the files; may be repeated."),
    ] = None,
    content_type: Annotated[
        str, typer.Option("--content-type", metavar="TYPE", help="Their media type.")
    ] = "",
    compress: Annotated[
        str, typer.Option("--compress", metavar="CODEC", help="zstd, gzip, lz4, brotli or none.")
    ] = "zstd",
    if_version: Annotated[
        str,
        typer.Option("--if-version", metavar="ID", help="Only if the file is as in this version."),
    ] = "",
    idempotency_key: Annotated[
        str, typer.Option("--idempotency-key", metavar="KEY", help="Makes a repeat harmless.")
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Overwrite what somebody else has changed.")
    ] = False,
    plain: _Plain = False,
    json: Json = False,
) -> None:
    """Upload files, as a commit in the remote, without a worktree.

    Of several paths the last one is the destination: a path in the repository, or a directory if it
    ends with a slash.

    \b
    $ dorky upload model.bin models/v3.bin -m "train v3"
    $ dorky upload a.csv b.csv data/ --remote s3://acme-vault/sets
    """
    from dorky.client import DorkyClient

    *sources, dest = paths if len(paths) > 1 else [*paths, ""]
    if len(sources) > 1 and not dest.endswith("/"):
        raise errors.UsageError(f"several files need a directory, written {dest}/")
    pairs = [pair.partition("=") for pair in metadata or ()]
    if wrong := next((pair for pair in pairs if not pair[1]), None):
        raise errors.UsageError(f"{wrong[0]} is not K=V")
    with DorkyClient(remote or None, unencrypted=plain or None) as client:
        done = [
            client.upload(
                source,
                dest or None,
                message=message,
                metadata={key: value for key, _, value in pairs},
                content_type=content_type,
                compress=compress,
                if_version=if_version or None,
                idempotency_key=idempotency_key,
                force=force,
            )
            for source in sources
        ]
    if json:
        show_json(done)
        return
    for info in done:
        say(f"Uploaded {name(info.path)} ({size(info.size)})")


def stat(
    target: Annotated[
        str, typer.Argument(metavar="[ID:]PATH", help="A file, of a version if one is given.")
    ],
    remote: _Remote = "",
    plain: _Plain = False,
    json: Json = False,
) -> None:
    """Show what the remote knows of a file.

    \b
    $ dorky stat models/v3.bin
    $ dorky stat models/v3.bin --remote s3://acme-vault/models --json
    """
    from dorky.client import DorkyClient

    with DorkyClient(remote or None, unencrypted=plain or None) as client:
        info = client.stat(target)
    if json:
        show_json(info)
        return
    when = f"{info.last_updated:%Y-%m-%d %H:%M} UTC" if info.last_updated else "unknown"
    say(f"path     {name(info.path)}")
    say(f"size     {size(info.size)}, stored in {size(info.stored_size)} ({info.compression})")
    say(f"type     {info.content_type}")
    say(f"changed  {when} by {name(info.uploaded_by)}")
    say(f"version  {info.version}")
    for key, value in sorted(info.custom.items()):
        say(f"         {name(key)}={name(value)}")
