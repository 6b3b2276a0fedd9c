"""Commands for signatures, SBOMs and statements about files: sign, verify, sbom, attest, bundle."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, List, cast  # noqa: UP035

import typer

from dorky import errors, files
from dorky.cli.command import Command, Json
from dorky.cli.output import escaped, from_here, name, note, opened, plural, say, show_json, style
from dorky.cli.paths import repository_path, repository_paths
from dorky.paths import shown
from dorky.results import Attestation, Sbom, Signature, SignResult

if TYPE_CHECKING:
    from dorky.commands.signatures import Form
    from dorky.project import Project
    from dorky.provenance.private_keys import PrivateKey
    from dorky.provenance.sbom import Format

sbom_app = typer.Typer(no_args_is_help=True, help="Attach SBOMs to files, and read them.")
bundle_app = typer.Typer(no_args_is_help=True, help="Exchange signatures with other programs.")

_LIMIT = 32 << 20
_COLORS = {"valid": "green", "unsigned": "yellow", "untrusted": "yellow"}

_Key = Annotated[
    str,
    typer.Option(
        "--key",
        metavar="FILE",
        help="A private key in PEM, or ssh for your SSH key; else your own.",
    ),
]
_Unsigned = Annotated[
    bool, typer.Option("--unsigned", help="Do not sign it; then it counts for no rule.")
]
_Push = Annotated[bool, typer.Option("--push", help="And push it.")]
_Rev = Annotated[str, typer.Option("--rev", metavar="REV", help="As this revision has the file.")]
_Format = Annotated[str, typer.Option("--format", metavar="FORMAT", help="spdx or cyclonedx.")]


def sign(
    paths: Annotated[
        List[str],  # noqa: UP006 - typer reads it at run time
        typer.Argument(metavar="PATH...", help="Committed files, or directories of them."),
    ],
    key: _Key = "",
    revision: _Rev = "HEAD",
    push: _Push = False,
    json: Json = False,
) -> None:
    """Sign files: say that they are as you have committed them.

    Without --key, the key signs by which the team knows you.

    \b
    $ dorky sign model.bin --push
    $ dorky sign release/ --key release.pem
    """
    from dorky.commands import provenance

    with opened() as repo:
        signer = _loaded(repo, key)
        names = repository_paths(repo, paths)
        done = provenance.sign(repo, names, key=signer, revision=revision, push=push)
    _added(done, json=json, did="Signed")


def verify(
    paths: Annotated[
        List[str],  # noqa: UP006
        typer.Argument(metavar="PATH...", help="Files, or directories of them."),
    ],
    revision: _Rev = "",
    keys: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Option("--key", metavar="PEM", help="A public key that alone counts; repeatable."),
    ] = None,
    signers: Annotated[
        str, typer.Option("--signers", metavar="FILE", help="A signers file that alone counts.")
    ] = "",
    names: Annotated[
        List[str] | None,  # noqa: UP006
        typer.Option("--signer", metavar="NAME", help="A signer who alone counts; repeatable."),
    ] = None,
    threshold: Annotated[
        int, typer.Option("--threshold", metavar="N", help="How many must have signed.")
    ] = 1,
    kind: Annotated[
        str,
        typer.Option("--type", metavar="TYPE", help="A statement of this type, not a signature."),
    ] = "",
    bundle: Annotated[
        str, typer.Option("--bundle", metavar="FILE", help="A bundle of another program's.")
    ] = "",
    json: Json = False,
) -> None:
    """Verify that files are signed, as they are on disk. Exits with 7 if one is not.

    Without options, those count who may write to the repository, and those in .dorkysigners.

    \b
    $ dorky verify model.bin
    $ dorky verify release/ --signer ana --signer ben --threshold 2
    $ dorky verify model.bin --key release.pub --rev HEAD~3
    """
    from dorky.commands import signatures
    from dorky.provenance import public_keys

    with opened() as repo:
        found = signatures.verify(
            repo,
            repository_paths(repo, paths),
            revision=revision,
            keys=[public_keys.read(_text(file), file) for file in keys or ()],
            signers=Path(signers) if signers else None,
            names=names or (),
            threshold=threshold,
            kind=kind,
            bundle=_bytes(bundle) if bundle else None,
        )
    if json:
        show_json(found)
    else:
        here = from_here()
        for one in found:
            word = style("valid" if one.valid else "not valid", fg="green" if one.valid else "red")
            say(f"{word}  {here(one.path)}: {escaped(one.message)}")
    signatures.check(found)


def signatures(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file.")],
    json: Json = False,
) -> None:
    """List the signatures of a file, and what each is worth.

    The time is what the signer claims.

    \b
    $ dorky signatures model.bin
    """
    from dorky.commands import signatures as signing

    with opened() as repo:
        found = signing.signatures(repo, repository_path(repo, path))
    _list(found, "Nobody has signed it.", json=json)


def attest(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A committed file.")],
    kind: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="What it says: a word, or a URI.")
    ],
    predicate: Annotated[
        str, typer.Option("--predicate", metavar="FILE", help="The JSON of it; - for the input.")
    ],
    key: _Key = "",
    unsigned: _Unsigned = False,
    push: _Push = False,
    json: Json = False,
) -> None:
    """Attach a signed statement to a file: how it was built, say.

    \b
    $ dorky attest model.bin --type build --predicate build.json
    $ dorky attest app --type https://slsa.dev/provenance/v1 --predicate slsa.json
    """
    from dorky.commands import provenance

    data = _bytes(predicate)
    with opened() as repo:
        done = provenance.attest(
            repo,
            repository_path(repo, path),
            kind,
            data,
            key=_loaded(repo, key),
            signed=not unsigned,
            push=push,
        )
    _added(done, json=json, did="Attested")


def attestations(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file.")],
    kind: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="Only of this type: a word, or a URI.")
    ] = "",
    json: Json = False,
) -> None:
    """List what was attached to a file, and what each is worth.

    \b
    $ dorky attestations model.bin
    $ dorky attestations model.bin --type build --json
    """
    from dorky.commands import signatures as signing

    with opened() as repo:
        found = signing.attested(repo, repository_path(repo, path), kind=kind)
    _list(found, "Nothing is attached to it.", json=json)


# --- SBOMs ----------------------------------------------------------------------------------


@sbom_app.command("attach", cls=Command)
def sbom_attach(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A committed file.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="The SBOM; - for the input.")],
    format: _Format = "",
    key: _Key = "",
    unsigned: _Unsigned = False,
    push: _Push = False,
    json: Json = False,
) -> None:
    """Attach an SBOM to a file, and sign it.

    \b
    $ dorky sbom attach app.tar sbom.cdx.json
    $ dorky sbom attach app.tar sbom.spdx --format spdx --push
    """
    from dorky.commands import provenance

    content = _bytes(file)
    with opened() as repo:
        done = provenance.attach_sbom(
            repo,
            repository_path(repo, path),
            content,
            format=_format(format),
            key=_loaded(repo, key),
            signed=not unsigned,
            push=push,
        )
    _added(done, json=json, did="Attached an SBOM to")


@sbom_app.command("get", cls=Command)
def sbom_get(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file.")],
    format: _Format = "",
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Write it there.")
    ] = "",
    json: Json = False,
) -> None:
    """Print the SBOM of a file, as it was attached: the newest that a trusted key has signed.

    \b
    $ dorky sbom get app.tar
    $ dorky sbom get app.tar --format spdx -o sbom.spdx.json
    """
    from dorky.commands import signatures as signing

    with opened() as repo:
        found = signing.sbom(repo, repository_path(repo, path), format=_format(format))
    if found.state != "valid":
        note(f"It is {found.state}: {escaped(found.problem)}")
    if json:
        show_json(found)
    elif output:
        _write(output, found.content.encode())
    else:
        _print(found.content.encode())


@sbom_app.command("list", cls=Command)
def sbom_list(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file.")],
    json: Json = False,
) -> None:
    """List the SBOMs of a file, and what each is worth.

    \b
    $ dorky sbom list app.tar
    """
    from dorky.commands import signatures as signing

    with opened() as repo:
        found = signing.without_content(signing.sboms(repo, repository_path(repo, path)))
    _list(found, "It has no SBOM.", json=json)


# --- bundles --------------------------------------------------------------------------------


@bundle_app.command("export", cls=Command)
def bundle_export(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Where to.")],
    format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="sigstore (a bundle) or ssh.")
    ] = "sigstore",
    kind: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="A statement of this type.")
    ] = "",
    id: Annotated[str, typer.Option("--id", metavar="ID", help="The one with this id.")] = "",
) -> None:
    """Write a signature of a file as other programs read it: the newest valid one.

    With --format ssh, FILE gets the signed bytes, and FILE.sig what ssh-keygen verifies.

    \b
    $ dorky bundle export model.bin -o model.bin.sigstore.json
    $ dorky bundle export model.bin -o model.bin.pae --format ssh
    """
    from dorky.commands import signatures as signing

    if format not in {"sigstore", "ssh"}:
        raise errors.UsageError(f"a bundle's format is sigstore or ssh, not {format}")
    with opened() as repo:
        found = signing.export_bundle(
            repo, repository_path(repo, path), form=cast("Form", format), kind=kind, id=id
        )
    if found.message:
        _write(output, found.message)
        _write(f"{output}.sig", found.content)
    else:
        _write(output, found.content)


@bundle_app.command("import", cls=Command)
def bundle_import(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The committed file it is about.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="A bundle, or an envelope.")],
    push: _Push = False,
    json: Json = False,
) -> None:
    """Attach to a file what another program has signed.

    \b
    $ dorky bundle import model.bin model.bin.sigstore.json
    """
    from dorky.commands import provenance

    data = _bytes(file)
    with opened() as repo:
        target = repository_path(repo, path)
        done = provenance.import_bundle(repo, target, data, source=file, push=push)
    _added(done, json=json, did="Attached a bundle to")


# --- in and out -----------------------------------------------------------------------------


def _loaded(repo: Project, key: str) -> PrivateKey | None:
    from dorky.commands import provenance

    return provenance.load_key(repo, key) if key else None


def _format(text: str) -> Format | None:
    if text not in {"", "spdx", "cyclonedx"}:
        raise errors.UsageError(f"an SBOM's format is spdx or cyclonedx, not {text}")
    return cast("Format", text) if text else None


def _bytes(file: str) -> bytes:
    """Return what a file, or standard input, holds."""
    if file == "-":
        data = sys.stdin.buffer.read(_LIMIT + 1)
    else:
        with files.disk_errors(Path(file)), open(file, "rb") as stream:
            data = stream.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise errors.UsageError(f"{file} has more than {_LIMIT >> 20} MiB")
    return data


def _text(file: str) -> str:
    return _bytes(file).decode(errors="replace")


def _write(output: str, content: bytes) -> None:
    files.write_atomic(Path(output), content, mode=0o666 & ~files.umask())
    say(f"Wrote {name(output)}")


def _print(content: bytes) -> None:
    if sys.stdout.isatty():
        text = content.decode()
        print("\n".join(escaped(line) for line in text.split("\n")))
        return
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _added(done: SignResult, *, json: bool, did: str) -> None:
    if json:
        show_json(done)
        return
    here = from_here()
    for one in done.added:
        say(f"{did} {here(one.path)} ({one.id[:10]})")
        if one.state != "valid":
            note(f"It is {one.state}: {escaped(one.problem)}")
    if done.edited:
        edited = shown([here(path) for path in done.edited])
        note(f"That is the committed version, not the one on disk, of {edited}")
        note("hint: dorky commit -a -m MESSAGE, then run the command again")
    if done.pushed:
        say(f"Pushed {plural(len(done.added), 'attestation')} to {name(done.pushed.url)}")


def _list(found: Sequence[Signature | Attestation | Sbom], nothing: str, *, json: bool) -> None:
    if json:
        show_json(found)
        return
    if not found:
        say(nothing)
    for one in found:
        _show(one)


def _show(one: Signature | Attestation | Sbom) -> None:
    when = f"{one.time:%Y-%m-%d %H:%M} UTC" if one.time else "at a time unknown"
    what = one.format if isinstance(one, Sbom) else one.type
    who = escaped(one.signed_by) or "-"
    how = one.algorithm if isinstance(one, Signature) else ""
    state = style(f"{one.state:9}", fg=_COLORS.get(one.state, "red"))
    words = [one.id[:10], state, who, when, how, escaped(what)]
    say("  ".join(word for word in words if word))
    if one.problem:
        say(f"{'':12}{escaped(one.problem)}")
