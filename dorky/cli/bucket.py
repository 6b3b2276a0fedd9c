"""Commands on buckets: create, list, delete, validate."""

from __future__ import annotations

from typing import Annotated

import typer

from dorky import errors
from dorky.cli import output
from dorky.cli.command import Command, Json
from dorky.cli.output import name, note, say, show_json
from dorky.results import BucketInfo, Check

Url = Annotated[str, typer.Argument(help="The bucket: s3://NAME or gs://NAME.")]
Profile = Annotated[str, typer.Option(help="AWS profile to use.", metavar="NAME")]
Region = Annotated[str, typer.Option(help="Region, or Google's location.", metavar="NAME")]
Endpoint = Annotated[str, typer.Option(help="Endpoint of an S3-compatible server.", metavar="URL")]
GoogleProject = Annotated[str, typer.Option("--project", help="Google project.", metavar="NAME")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only look whether it can be.")]

app = typer.Typer(no_args_is_help=True, help="Create, list, examine and delete buckets.")


@app.command("create", cls=Command)
def create(
    url: Url,
    region: Region = "",
    project: GoogleProject = "",
    profile: Profile = "",
    endpoint: Endpoint = "",
    exist_ok: Annotated[
        bool, typer.Option("--exist-ok", help="It may exist: then only its settings are made.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Create a bucket: private, with public access blocked, versioning on, and TLS required.

    Exits with 1 if you lack the permission for one of these settings. What an S3-compatible server
    does not know is told, and is no failure.

    \b
    $ dorky bucket create s3://acme-vault --region eu-central-1
    $ dorky bucket create gs://acme-vault --region europe-west3 --dry-run
    """
    from dorky.commands import bucket

    options = _options(region=region, project=project, profile=profile, endpoint=endpoint)
    if dry_run:
        info = bucket.plan_create(url, options, exist_ok=exist_ok)
    else:
        info = bucket.create(url, options, exist_ok=exist_ok)
    if json:
        show_json(info)
    else:
        where = f" in {name(info.region)}" if info.region else ""
        say(f"{'Would create' if dry_run else 'Created'} {name(url)}{where}")
        output.checks(info.checks)
    _exit_by(info.checks)


@app.command("list", cls=Command)
def list_(
    url: Annotated[str, typer.Argument(help="Which: s3:// or gs://.")] = "s3://",
    project: GoogleProject = "",
    profile: Profile = "",
    region: Region = "",
    endpoint: Endpoint = "",
    json: Json = False,
) -> None:
    """List the buckets of an account or project.

    \b
    $ dorky bucket list
    $ dorky bucket list gs:// --project acme-prod
    """
    from dorky.commands import bucket

    options = _options(region=region, project=project, profile=profile, endpoint=endpoint)
    found = bucket.list_buckets(url, options)
    if json:
        show_json(found)
        return
    for info in found:
        say(_line(info))
    if not found:
        note("No buckets.")


def _line(info: BucketInfo) -> str:
    created = f"{info.created:%Y-%m-%d}" if info.created else " " * 10
    return f"{created}  {name(info.region) or '-':16}  {name(info.name)}"


@app.command("delete", cls=Command)
def delete(
    url: Url,
    profile: Profile = "",
    region: Region = "",
    endpoint: Endpoint = "",
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Json = False,
) -> None:
    """Delete an empty bucket. One that holds anything, an old version too, is left alone.

    \b
    $ dorky bucket delete s3://acme-old --dry-run
    $ dorky bucket delete s3://acme-old
    """
    from dorky.commands import bucket

    options = _options(region=region, profile=profile, endpoint=endpoint)
    info = bucket.plan_delete(url, options)
    if json:
        show_json(info)
    else:
        note(f"Will delete the bucket {name(info.name)}, which is empty")
    if dry_run:
        return
    if not yes and not output.confirm(f"Type {output.escaped(url)} to go on:", url):
        raise errors.NotConfirmed("deleted")
    bucket.delete(url, options)
    if not json:
        say("Deleted.")


@app.command("validate", cls=Command)
def validate(
    url: Annotated[str, typer.Argument(help="A bucket, a prefix of one, or a directory.")],
    profile: Profile = "",
    region: Region = "",
    endpoint: Endpoint = "",
    json: Json = False,
) -> None:
    """Look whether a bucket suits a repository, and print the least rights in it.

    It writes scratch keys: writers race for them, to see whether the bucket keeps them apart. Then
    come the rights of users who read, who write, and who maintain the repository, as a policy for
    AWS or bindings for Google. Exits with 1 if anything is wrong.

    \b
    $ dorky bucket validate s3://acme-vault/payments
    $ dorky bucket validate gs://acme-vault --json
    """
    import json as encoder

    import msgspec

    from dorky.cli import hints
    from dorky.commands import bucket

    report = bucket.validate(url, _options(region=region, profile=profile, endpoint=endpoint))
    checks = tuple(map(hints.check_in_words, report.checks))
    if json:
        show_json(msgspec.structs.replace(report, checks=checks))
    else:
        output.checks(checks)
        for role in report.roles:
            say()
            say(f"{role.name} ({role.commands}):")
            say(encoder.dumps(role.policy, indent=2))
    _exit_by(checks)


def _options(project: str = "", **given: str) -> dict[str, str]:
    """Return the driver's options: those that were typed, else the user's and the environment's."""
    from dorky.config import Config
    from dorky.project import ORIGIN

    config = Config(
        None, flags={f"remotes.{ORIGIN}.{key}": text for key, text in given.items() if text}
    )
    options = config.driver_options(ORIGIN)
    project = project or config.environment.get("GOOGLE_CLOUD_PROJECT", "")
    return {**options, "project": project} if project else options


def _exit_by(checks: tuple[Check, ...]) -> None:
    if any(check.verdict == "fail" for check in checks):
        raise typer.Exit(1)
