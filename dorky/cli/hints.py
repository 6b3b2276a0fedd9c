"""The hints: what to run next after an error, and what to do about a finding.

The library's errors say what failed; which command helps is known here alone. A hint is one line
with one command, which runs as it is pasted: what stands in a gap ``{0}`` is quoted for a shell,
and ``{0:path}`` is a repository path, as it is typed in the current directory.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dorky import errors
from dorky.cli.paths import as_typed
from dorky.config import RC
from dorky.errors import DorkyError
from dorky.redaction import redacted
from dorky.results import Check, Finding, Remedy

_FSCK = "dorky fsck, or for the bucket dorky fsck --remote --read-data: they say what remedies it"

TEXTS: Mapping[type[DorkyError], str] = {
    errors.NothingToSave: "dorky status; to save a new file, name it: dorky save FILE",
    errors.NothingStaged: "dorky stage FILE…, or dorky commit -a",
    errors.NoMerge: "dorky status",
    errors.AlreadyAdmitted: "dorky pull",
    errors.KeyHeldAlready: "dorky team list",
    errors.RoleHeldAlready: "dorky team list",
    errors.CanOnlyRead: "give both keys that dorky key show prints",
    errors.UnsoundTeam: "dorky team list",
    errors.RootMoved: "dorky remote repair",
    errors.NotWriter: "dorky team join",
    errors.CantSign: "set DORKY_SSH_PASSPHRASE",
    errors.ForgedRoot: "tell the members, and see who can write to the bucket",
    errors.ForgedCommit: "dorky team log",
    errors.WrongTeam: f"git log -p {RC}",
    errors.TeamRewound: f"git log -p {RC}",
    errors.EmptyMessage: 'dorky commit -m "say what changed"',
    errors.BadURL: "use s3://bucket/prefix, gs://bucket/prefix, file:///dir or a plain path",
    errors.BadRecipient: "give age1…, the line of an SSH key's .pub file, or awskms:ARN",
    errors.BadDocument: "dorky edit {0:path}",
    errors.BadPublicKey: "give a PEM file (openssl pkey -in KEY -pubout), or a .pub file of SSH",
    errors.BadPredicate: "its type is one word or a URI; its predicate is one JSON object",
    errors.BadSBOM: "give the file as its tool has written it; --format says what it is",
    errors.CantExport: "use another form, or leave the variable out",
    errors.UnsafeVariable: "if that is meant, add --allow-env {1}",
    errors.NotFetched: "dorky pull {0:path}",
    errors.BadPackage: "build it again, as its project says",
    errors.BadLock: "uv pip compile --format pylock.toml writes one",
    errors.UnexpectedFile: "run the command again; if it stays, compare the index with another one",
    errors.BadRequirement: "dorky python save --help",
    errors.HashNotNamed: "uv pip compile --generate-hashes writes the hashes that the index has",
    errors.NoSolution: "check the names and versions; --index-url names another index",
    errors.OnlySources: "add --sdist to take source distributions, too",
    errors.NoSuchPackage: "dorky python list",
    errors.NoPackages: "name their directory by --dir; to take back an index, delete its files",
    errors.PackageHeld: "give it a new version",
    errors.ProjectClosed: "dorky python status {0} active",
    errors.BadRecord: "see who has changed it, and save the package again",
    errors.ExtraMissing: "pip install 'dorky-client[python]'",
    errors.NotCached: "call it once without local_only",
    errors.EmptyPath: "name a file, or . for all of them",
    errors.OnlyContents: "add --all-contents",
    errors.IgnoredPath: "add --force",
    errors.DirectoryNamed: "name a file",
    errors.NotADocument: "dorky edit {0:path}",
    errors.UnusableName: "dorky run --only NAME takes the others",
    errors.UnusableValue: "dorky run --only NAME takes the others",
    errors.BadName: "one word of at most 64 letters, digits and . _ - @ +",
    errors.BadPattern: "such as 'env/prod/**'",
    errors.BadPin: "a member sees it by: dorky config get repository.team",
    errors.BadFingerprint: "a member sees it by: dorky config get repository.fingerprint",
    errors.BadRange: "dorky diff A..B compares the two",
    errors.TooManyRevisions: "dorky diff A B, or dorky diff A..B",
    errors.UnknownSetting: "dorky config list --all",
    errors.CredentialsInSetting: "put them into ~/.aws, or the environment",
    errors.UsersSetting: "dorky config set --user {0} VALUE",
    errors.ProjectsSetting: "dorky config set {0} VALUE",
    errors.NoBuckets: "use s3://bucket or gs://bucket",
    errors.BadBucketName: "take 3 to 63 lowercase letters, digits and hyphens",
    errors.NotABucket: "use s3://bucket or gs://bucket",
    errors.NoProject: "set GOOGLE_CLOUD_PROJECT",
    errors.OtherReaders: "the patterns decide that: dorky group list",
    errors.PublicHalf: "dorky key use {1}",
    errors.ShortPassphrase: (
        "whoever reads the bucket can try as many as they like: take several words"
    ),
    errors.TooManyKeys: "dorky team list",
    errors.TooManyGroups: "dorky group list",
    errors.TooManyEpochs: "start another repository: dorky init URL",
    errors.NobodyLeft: "dorky destroy deletes it",
    errors.EmptyGroup: "first: dorky group members {0} --add NAME",
    errors.OutsideOwnGroup: "add --member {0}",
    errors.OwnRemoval: "ask another member to do it",
    errors.UselessKeys: "dorky team list",
    errors.TooFewOperations: "dorky op log",
    errors.MergeForgotten: "dorky resolve FILE --ours, then dorky merge --continue",
    errors.SeveralStates: "dorky trust --state {2}",
    errors.NoHome: "set HOME",
    errors.NoSuchHome: "write the whole path",
    errors.GitMissing: "install git: dorky must see what it tracks",
    errors.GitFailed: "{2!s}",
    errors.IgnoreFileIsLink: "put a file in its place",
    errors.NotARepository: "dorky init, or dorky clone URL",
    errors.NotSetUp: "dorky pull",
    errors.UntrustedState: "if you did not make it so, delete or move {0}; then dorky pull",
    errors.BadStateDirectory: "name another directory, or unset DORKY_DIR",
    errors.ForeignState: "dorky trust shows it and asks; if it is not yours: rm -r {1}*",
    errors.OldState: "push with the dorky that made it, delete {0}/dorky.db, then dorky pull",
    errors.UnsoundState: (
        "delete it, then dorky pull; or bring back ~/.dorky/state.key from a backup"
    ),
    errors.UntrustedStateKey: "delete it; in each project, dorky trust then takes over the state",
    errors.NoStateKey: "set HOME to a directory that you can write to, or set DORKY_IDENTITY",
    errors.AlreadyARepository: "dorky status",
    errors.BadConfig: "correct the file, or see `dorky config list`",
    errors.DubiousOwnership: "if you trust that user: dorky config set --add safe.directory {2}",
    errors.ReadOnly: "run it where the project can be written to",
    errors.WritableByAll: "chmod o-w {0}",
    errors.ConfigTooNew: "install a newer dorky, then run the command again",
    errors.FormatTooNew: "install a newer dorky, then run the command again",
    errors.FormatTooOld: "take the files from a worktree, then begin again: dorky init URL",
    errors.NoProjectFile: "check out a git branch that has it, or: git restore .dorkyrc",
    errors.BadSigners: 'a line is: NAME namespaces="dorky-artifact" ssh-ed25519 AAAA…',
    errors.NoRemote: "dorky remote add {0} s3://bucket/prefix",
    errors.RemoteNotNamed: "check the URL; if it is right: dorky remote set-url origin {0}",
    errors.RemoteExists: "dorky remote set-url {0} URL",
    errors.NoDriver: "known schemes: {1!s}",
    errors.MissingLibrary: "pip install {1}",
    errors.PathNotFound: "dorky status shows what is here",
    errors.PathNotTracked: "dorky ls",
    errors.NoSuchMember: "dorky team list",
    errors.NoSuchKey: "dorky team list",
    errors.NoSuchGroup: "dorky group list",
    errors.NoSuchPattern: "dorky group list",
    errors.NoConflict: "dorky status",
    errors.NoSuchState: "dorky trust",
    errors.CommandUnusable: (
        "check its name; dorky run -- COMMAND takes a program, not a line for a shell"
    ),
    errors.NoAttestation: "dorky signatures {0:path}, and dorky attestations {0:path}",
    errors.UnknownRevision: "dorky log --oneline",
    errors.AmbiguousRevision: "give more digits",
    errors.NoCommits: 'dorky stage FILE && dorky commit -m "first"',
    errors.BucketNotFound: "check the URL in .dorkyrc, or create the bucket",
    errors.NoRepositoryAtURL: "check the URL; dorky init starts a new repository",
    errors.KMSKeyNotFound: "check the ARN, and whose account it names",
    errors.NotMounted: "mount its disk, then run the command again",
    errors.RootVanished: (
        "check the URL; restore PREFIX/root from the bucket's versions or a backup"
    ),
    errors.Rejected: "dorky sync (pulls, merges and pushes), or dorky pull",
    errors.Unresolved: "edit the files, then dorky resolve FILE (or with --ours, or --theirs) and "
    "dorky merge --continue; to give up: dorky merge --abort",
    errors.StillMarked: "edit it, or take one side: dorky resolve {0:path} --ours (or --theirs)",
    errors.MergeInProgress: "dorky merge --continue, or dorky merge --abort",
    errors.RepositoryExists: "dorky clone {0}",
    errors.LocalChanges: "dorky stage and commit them, or add --force (a backup is kept)",
    errors.NeverPulled: (
        "dorky restore {0:path} brings it, and keeps yours in a backup; to replace it: "
        "dorky stage --force {0:path}"
    ),
    errors.NestedProject: "stage it there: cd {1} && dorky stage FILE",
    errors.SourceCode: "git add it first, or name the files; if it is meant, add --yes",
    errors.ManyFiles: "list in .dorkyignore what is not to be kept; if it is meant, add --yes",
    errors.ManyDeletions: "dorky restore . brings them back; if it is meant, add --allow-deletions",
    errors.GitTracked: "git rm --cached -- {0:path}",
    errors.GitDoesNotIgnore: "a later rule un-ignores it: git check-ignore -v --no-index {0:path}",
    errors.NameClash: "rename one of them",
    errors.FileChanged: "stop the program that writes it, then run the command again",
    errors.CopyIsNewer: "if the two were mixed up: dorky mirror {0} {1}",
    errors.CopyDiverged: "see what they are: dorky clone {0}; or copy to an empty place",
    errors.CopyOfAnother: "dorky mirror {2} URL, of an empty place",
    errors.CopyUnknown: "run it as a member, without --keyless, or copy to an empty place",
    errors.Locked: "wait for it to finish, then run the command again",
    errors.Misplaced: "dorky sync --rewrite",
    errors.LeftGroup: "dorky sync --rewrite",
    errors.NotPulled: "dorky pull",
    errors.Detached: "dorky checkout main",
    errors.PushedMeanwhile: "dorky pull, then purge again",
    errors.PlanOutdated: "plan again",
    errors.OutOfStep: "dorky sync",
    errors.Unshared: "dorky sync, then run the command again",
    errors.ChangesStaged: "commit or unstage them first",
    errors.PatternsOverlap: "a file belongs to one group: dorky group list",
    errors.MemberExists: "dorky team list",
    errors.TokenExists: "give the token another name, or delete the line of the old one",
    errors.KeyTaken: "dorky team list",
    errors.KeyExists: "dorky key show",
    errors.StateChanged: "dorky trust",
    errors.BucketNotEmpty: "if nobody needs it, delete it with the cloud's own tools first",
    errors.SwapsIgnored: "use another server, or mark the remote as having one writer ever: "
    "dorky config set remotes.{1}.single_writer true",
    errors.SwapsUnsupported: "use another server, or mark the remote as having one writer ever: "
    "dorky config set remotes.origin.single_writer true",
    errors.WouldLockOut: "if you mean it: dorky team remove {0} --yes",
    errors.NotConfirmed: "answer the question on a terminal, or add --yes",
    errors.EditorFailed: "$VISUAL or $EDITOR names the editor",
    errors.NotSaved: "dorky edit {0:path}, take what you need from there, then delete it",
    errors.NoCredentials: (
        "aws configure (or AWS_PROFILE), or gcloud auth application-default login"
    ),
    errors.ExpiredCredentials: "log in again (aws sso login, or renew the token)",
    errors.NotAllowed: "if that is right: dorky remote allow {2} --endpoint URL --profile NAME",
    errors.ClockSkew: "set the clock: timedatectl set-ntp true",
    errors.AccessDenied: "check the bucket's policy and which account you use",
    errors.ReadOnlyRemote: (
        "if you may write to its bucket or directory: dorky remote set-url origin s3://bucket/prefix"
    ),
    errors.PrivateHost: "if you trust it: dorky config set --user private_hosts {0}",
    errors.IdentityMissing: "dorky key gen, or dorky key use PATH",
    errors.IdentityMalformed: (
        "it is a line AGE-SECRET-KEY-1…, without quotes, or an SSH private key"
    ),
    errors.IdentityLost: (
        "bring {0} back from a backup, or use the recovery key: export DORKY_IDENTITY=…; "
        "if neither exists: rm {1}, then dorky team join"
    ),
    errors.IdentityExposed: "chmod 600 {0}",
    errors.SigningKeyMissing: "dorky key gen --signing {0:path}",
    errors.BadSigningKey: "dorky key gen --signing FILE makes one",
    errors.UnusableIdentity: "use an SSH key of the type ed25519, or an age identity",
    errors.WrongPassphrase: (
        "type it again; DORKY_PASSPHRASE or DORKY_SSH_PASSPHRASE may hold another"
    ),
    errors.IdentityCommandFailed: "run the command in DORKY_IDENTITY_CMD by hand",
    errors.KMSKeyUnusable: "aws kms describe-key --key-id {0}",
    errors.NoKey: "dorky team join, then tell a member of the team the fingerprint that it prints",
    errors.ForeignGroup: "ask one of them: dorky group members {1}",
    errors.AmbiguousGroup: "dorky group list; then dorky group remove NAME PATTERN for one of them",
    errors.NotInGroup: "dorky group list",
    errors.CorruptObject: _FSCK,
    errors.CorruptPack: _FSCK,
    errors.CorruptTable: "dorky fsck --repair",
    errors.CorruptRoot: "restore PREFIX/root from the bucket's versions; nothing local was changed",
    errors.TooLarge: "find out who wrote it; restore it from the bucket's versions, or delete it",
    errors.NotAFile: "find out who put it there, then delete it",
    errors.MissingObject: _FSCK,
    errors.MissingPack: (
        "dorky fsck --remote; another clone, a backup or the bucket's versions may have it"
    ),
    errors.WrongRepository: "check the URL in .dorkyrc",
    errors.WrongKey: "ask the person who set the project up before you go on",
    errors.UnencryptedRepository: (
        "ask the person who set the project up; if it is meant: dorky pull --plain"
    ),
    errors.BadBundle: "give it as its tool has written it; nothing local was changed",
    errors.Unsigned: "whoever has committed it: dorky sign FILE --push",
    errors.BadSignature: "dorky signatures FILE, and ask those who have signed it",
    errors.ForgedGroup: "ask who pushed last; nothing local was changed",
    errors.Rewound: (
        "ask who restored it; nothing local was changed; to follow: dorky pull --accept-rewind"
    ),
    errors.BadKnown: "rm {2}",
    errors.HistoryReplaced: (
        "ask who did it; nothing local was changed; to follow: dorky pull --accept-rewind"
    ),
    errors.CorruptDatabase: "dorky fsck --repair",
    errors.StateLost: "dorky fsck --repair; or, if DORKY_DIR named its place, set it as before",
    errors.BadSpare: (
        "bring back ~/.dorky/state.key from a backup; if nothing in it is wanted: rm -r {0}"
    ),
    errors.Damaged: "dorky fsck --repair, if nothing else is said above",
    errors.Unreachable: "check the network and the endpoint, then run the command again",
    errors.ServerBusy: "run the command again",
    errors.WrongRegion: "add --region REGION, or: dorky config set remotes.origin.region REGION",
    errors.BadEndpoint: "check the endpoint",
    errors.OutcomeUnknown: "run dorky push again: it is safe",
    errors.DiskFull: "free some space, then run the command again; nothing was lost",
    errors.DiskError: "repair that (is the disk full, or read-only?), then run the command again",
}
"""The usual hint of a class and of those below it, over the error's arguments."""


def hint(error: DorkyError) -> str:
    """Return one line that says what to run next; empty when there is nothing useful to say."""
    if isinstance(given := error.facts.get("hint"), str):  # of an error that the CLI has raised
        return redacted(given)
    for kind in type(error).__mro__:
        if (choose := _CHOICES.get(kind)) and (chosen := choose(error)) is not None:
            return redacted(chosen)
    return redacted(_filled(usual(type(error)), error.args))


def usual(kind: type[DorkyError]) -> str:
    """Return the usual hint of a class, a format string over the arguments of its errors."""
    return next((TEXTS[base] for base in kind.__mro__ if base in TEXTS), "")


def quoted(word: object) -> str:
    """Quote a path, a name or a URL for the command in a hint: it may be anything, people paste."""
    return shlex.quote(str(word))


class _Word(str):
    """An argument of an error: ``{0}`` quotes it, ``{0!s}`` does not (see the module)."""

    __slots__ = ()

    def __format__(self, kind: str) -> str:
        return quoted(as_typed(self) if kind == "path" else self)


def _filled(text: str, words: tuple[object, ...]) -> str:
    return text.format(*(_Word(word) for word in words))


# --- findings -------------------------------------------------------------------------------

REMEDIES = {
    "repair": "dorky fsck --repair",
    "pull": "dorky pull",
    "status": "dorky status",
    "stage": "dorky stage {0}",
    "touch": "if {0!s} is as it was: touch {0:path}, then dorky stage {0:path}",
    "gc": "dorky gc",
    "other-package": "{0} -m pip uninstall dorky, then install dorky-client again",
    "distrust": "if that is not meant: dorky config unset safe.directory",
    "end-merge": "dorky status, then dorky merge --continue or dorky merge --abort",
    "add-remote": "dorky remote add origin s3://bucket/prefix",
    "share": "if the bucket honours them: dorky config unset remotes.{0}.single_writer",
    "team pin": f"git pull, or: dorky config set repository.team {{0}}, and commit {RC}",
    "pin": f"git pull, or: dorky config set repository.fingerprint {{0}}, and commit {RC}",
    "unclaim": "dorky group remove NAME PATTERN, by a member of {0} or of {1}",
    "recovery-key": "dorky team add recovery passphrase",
    "group-member": "dorky group members {0} --add NAME",
}


def remedy(found: Remedy | str) -> str:
    """Return what to do about a finding, in words."""
    if isinstance(found, str):
        return found
    if found.error is not None:
        return hint(found.error)
    if found.what == "stage":
        return f"dorky stage {shlex.join(as_typed(path) for path in found.about)}"
    return _filled(REMEDIES[found.what], found.about)


def check_in_words(check: Check) -> Check:
    """Return a check whose remedy is in words."""
    return msgspec.structs.replace(check, remedy=remedy(check.remedy))


def finding_in_words(finding: Finding) -> Finding:
    """Return a finding whose remedy is in words."""
    return msgspec.structs.replace(finding, remedy=remedy(finding.remedy))


# --- choices --------------------------------------------------------------------------------


def _fact(name: str, text: str) -> Callable[[DorkyError], str | None]:
    """Return a choice: a text over one fact, for errors that have it."""

    def choose(error: DorkyError) -> str | None:
        fact = error.facts.get(name)
        return None if fact is None else _filled(text, (fact, *error.args))

    return choose


def _by(name: str, texts: Mapping[object, str]) -> Callable[[DorkyError], str | None]:
    """Return a choice: a text for each value of one fact, over the error's arguments."""

    def choose(error: DorkyError) -> str | None:
        text = texts.get(error.facts.get(name))
        return None if text is None else _filled(text, error.args)

    return choose


def _without_state(error: DorkyError) -> str | None:
    if not str(error.args[0]).endswith("/.dorky"):
        return None
    return "export DORKY_DIR=/a/directory/of/yours, outside of the project; then run it again"


def _unstorable(error: DorkyError) -> str | None:
    if "link" in error.facts:
        return "stage the link itself, or the file by its real path"
    if "repository" in error.facts:
        directory = f"/{error.facts['repository']}/"
        return f"echo {quoted(directory)} >> .dorkyignore"
    return None


def _dubious(error: DorkyError) -> str | None:
    place = error.facts.get("place")
    if place == "home":
        return "set HOME to your own home directory"
    if place == "git":
        return f"git config --global --add safe.directory {quoted(error.args[2])}"
    # Root's files in a directory of the user's are left by sudo.
    return _chown(error)


_CERTIFICATES = {
    "expired": "have it renewed; if this machine's clock is wrong: timedatectl set-ntp true",
    "early": "if this machine's clock is wrong: timedatectl set-ntp true",
    "name": "the endpoint must be a name in the certificate, which {0} does not change",
    "authority": "{0} can't help: a server's own certificate has basicConstraints=CA:FALSE",
    "unknown": "export {0}=FILE, the PEM certificate of its authority, or its own",
}
"""What to do about a server's certificate; the gap is the variable that names trusted ones."""


_KEYLESS = "add --keyless: a copy can be made without a key"
_SINGLE = "use another server, or if nobody else ever writes: dorky init {0} --single-writer"


def _swaps(error: DorkyError) -> str | None:
    if place := error.facts.get("copying"):
        if "://" in str(place):
            return (
                "use another server, or name it and mark it as having one writer: "
                f"dorky remote add copy {quoted(place)}"
            )
        return (
            "use another server, or if nobody else ever writes: "
            f"dorky config set remotes.{place}.single_writer true"
        )
    return _fact("starting", _SINGLE)(error)


def _rewound(error: DorkyError) -> str | None:
    if "copying" in error.facts:
        return "ask who restored it; to copy it all the same, add --accept-rewind"
    return _fact("cloning", "ask who restored it; to follow: dorky clone --accept-rewind {0}")(
        error
    )


def _unreached(error: DorkyError) -> str | None:
    if variable := error.facts.get("proxy"):
        return f"check {variable}; NO_PROXY names hosts to reach without it"
    if fault := error.facts.get("certificate"):
        return _CERTIFICATES[str(fault)].format(error.facts["bundle"])
    return None


def _chown(error: DorkyError) -> str | None:
    if "left_by_sudo" in error.facts:
        return f"sudo chown -R {os.geteuid()} {quoted(error.facts['left_by_sudo'])}"
    return None


def _unusable(error: DorkyError) -> str | None:
    source = str(error.args[0])
    if error.facts.get("needs") == "format":
        return f"ssh-keygen -p -f {quoted(source) if '/' in source else 'FILE'} converts it"
    if error.facts.get("needs") == "cipher":
        return "ssh-keygen -p -Z aes256-ctr -f FILE changes it"
    return None


def _directory(error: DorkyError) -> str | None:
    if "revision" in error.facts:
        path = as_typed(str(error.args[0]))
        return f"dorky ls {quoted(error.facts['revision'])} {quoted(path)}"
    return None


def _untracked(error: DorkyError) -> str | None:
    if purge := error.facts.get("purge"):
        # If the purge was interrupted, the bucket has some of it still.
        more = "; for what the bucket has left: dorky gc --remote --grace 0"
        return f"{purge}{more if error.facts.get('purging') else ''}"
    if revision := error.facts.get("revision"):
        return f"dorky ls {quoted(revision)}"
    return None


def _misplaced(error: DorkyError) -> str | None:
    if "heirs" in error.facts:
        return (
            f"give the file to {error.facts['heirs'] or 'a member'}, then: "
            f"dorky rm --cached {quoted(as_typed(str(error.args[0])))}"
            " && dorky commit -m ... && dorky sync --rewrite"
        )
    return None


def _would_open(error: DorkyError) -> str:
    path, _, new = error.args
    command = f"dorky {error.facts.get('command', 'stage')} {quoted(as_typed(path))}"
    if revision := error.facts.get("revision"):
        command += f" --source {quoted(revision)}"
    more = " && dorky commit -m ..., then again" if error.facts.get("committed") else ""
    return f"if they may: {command} --for {new}{more}"


def _changed(error: DorkyError) -> str | None:
    if "undoing" in error.facts:
        count = error.facts["undoing"]
        again = "dorky undo" if count == 1 else f"dorky undo {count}"
        return f"{again} --force (a backup is kept)"
    return _by(
        "during",
        {
            "download": "choose another name, or add --force",
            "rm": "commit them, or add --cached (keeps the files)",
            "edit": "it was changed just now: begin again",
            "first pull": "move them away, or add --force (a backup is kept)",
        },
    )(error)


def _not_saved(error: DorkyError) -> str | None:
    cause = error.facts.get("cause")
    return hint(cause) if isinstance(cause, DorkyError) else None


def _not_allowed(error: DorkyError) -> str:
    words = ["dorky", "remote", "allow", str(error.args[2])]
    for option in ("endpoint", "profile"):
        if value := error.facts.get(option):
            words += [f"--{option}", str(value)]
    return f"if that is right: {shlex.join(words)}"


def _shut_out(error: DorkyError) -> str | None:
    """Return how to join, and which member to ask."""
    facts = error.facts
    if "keyless" in facts:
        return _KEYLESS
    if not {"place", "author"} & facts.keys():
        return None
    command = "dorky team join"
    if "place" in facts:
        command = f"DORKY_URL={quoted(facts['place'])} {command}"
    who = facts.get("author")
    whom = f"{who}, who committed {RC}," if who else "a member of the team"
    join = f"{command}, then tell {whom} the fingerprint that it prints"
    if locked := facts.get("locked"):
        return f"if the key in {locked} should: set DORKY_SSH_PASSPHRASE; else {join}"
    if "seen" in facts:
        return (
            "bring your key back from a backup, or use the recovery key: "
            f"export DORKY_IDENTITY=…; else {join}"
        )
    return join


def _unfit(error: DorkyError) -> str | None:
    """Return how to make a key usable; joining with another one comes second."""
    cause = error.facts.get("cause")
    first = hint(cause) if isinstance(cause, DorkyError) else None
    if isinstance(cause, errors.UnreadableFile):
        first = f"chmod 600 {quoted(cause.args[0])}"
    join = _shut_out(error)
    return f"{first}; for another key: {join}" if first and join else first or join


def _other_repository(error: DorkyError) -> str | None:
    if "noted_in" in error.facts:
        return (
            f"git log -p {RC}; if the project has moved to another repository: "
            f"rm {quoted(error.facts['noted_in'])}"
        )
    return None


def _asked_for(error: DorkyError) -> str | None:
    """Return whom to ask for another role."""
    facts = error.facts
    if "member" not in facts:
        return None
    command = f"dorky team set-role {quoted(facts['member'])} {facts['wanted']}"
    return f"ask {facts['admin']}: {command}"


_CHOICES: Mapping[type[Any], Callable[[DorkyError], str | None]] = {
    errors.UsageError: _by(
        "needs",
        {
            "port": "--port 0 takes one that is free",
            "tokens": (
                "dorky python token NAME --write --file tokens makes one; add --token-file tokens"
            ),
            "tls": "add --tls-cert FILE --tls-key FILE, or --trust-proxy 1",
        },
    ),
    errors.PathNotFound: _by(
        "kind",
        {
            "tokens": "dorky python token NAME --write --file {0} makes one",
            "tls": "--tls-cert and --tls-key name files in PEM",
        },
    ),
    errors.UnstorablePath: _unstorable,
    errors.BadRecipient: _by(
        "kind",
        {
            "secret": (
                "give its public half, which age-keygen -y FILE or ssh-keygen -y -f FILE prints"
            ),
            "kms": "give awskms:arn:aws:kms:REGION:ACCOUNT:key/ID (or :alias/NAME)",
        },
    ),
    errors.ManyDeletions: _by(
        "kind",
        {
            "staged": (
                "dorky unstage . && dorky restore . brings them back; if it is meant, add "
                "--allow-deletions"
            ),
        },
    ),
    errors.EmptyMessage: _by("during", {"save": 'dorky save -m "say what changed"'}),
    errors.ReadOnly: _without_state,
    errors.IgnoredPath: _by("during", {"edit": "remove it from there first"}),
    errors.DirectoryNamed: _directory,
    errors.NotADocument: _fact("read_from", "dorky cat {0}"),
    errors.UntrustedState: _chown,
    errors.BadConfig: _by(
        "file",
        {
            "exposed": "remove them, and change them: others may have read them",
            "certificates": "see AWS_CA_BUNDLE",
            "own": "rm {0}",
            "conflict": (
                "resolve git's conflict in it (of repository.team, take the side with the higher "
                f"number), then: git add {RC}"
            ),
        },
    ),
    errors.BadURL: _by(
        "kind",
        {
            "index": "an index is written https://host/path",
            "open index": "name the index by https://",
        },
    ),
    errors.DubiousOwnership: _dubious,
    errors.CommandUnusable: _by(
        "needs",
        {
            "room": "dorky run --only NAME gives it fewer variables",
            "editor": 'EDITOR="…" dorky edit PATH',
        },
    ),
    errors.PathNotTracked: _untracked,
    errors.NoSuchVariable: _fact("near", "did you mean {0!s}?"),
    errors.SwapsIgnored: _swaps,
    errors.SwapsUnsupported: _swaps,
    errors.BucketExists: _fact(
        "visible", "to give it dorky's settings: dorky bucket create {1} --exist-ok"
    ),
    errors.BucketNotFound: _by(
        "kind", {"index": "check the URL, or create it: dorky bucket create {0}"}
    ),
    errors.Unreachable: _unreached,
    errors.NoCommits: _by("fetched", {True: "dorky pull"}),
    errors.UnknownRevision: _fact("root", "{0!s} has no parent"),
    errors.NoRepositoryAtURL: _by(
        "unpushed", {True: "check the URL; dorky push starts it with all that this clone has"}
    ),
    errors.Diverged: _by(
        "over",
        {
            "contested": "dorky group list",
            "names": "rename yours with mv, stage both names, commit, and pull again",
            "left group": (
                "dorky sync --rewrite leaves out what you changed before you left the group"
            ),
        },
    ),
    errors.LocalChanges: _changed,
    errors.Misplaced: _misplaced,
    errors.WouldOpen: _would_open,
    errors.NotSaved: _not_saved,
    errors.ExpiredCredentials: _by(
        "cloud", {"google": "log in again: gcloud auth application-default login"}
    ),
    errors.NotAllowed: _not_allowed,
    errors.AccessDenied: _by(
        "to",
        {
            "kms": "check the key's policy and which account you use",
            "index": "UV_DEFAULT_INDEX=https://USER:PASSWORD@HOST/simple/ proves who you are",
        },
    ),
    errors.IdentityMissing: _shut_out,
    errors.NoKey: _shut_out,
    errors.UnusableIdentity: _unusable,
    errors.Unavailable: _fact(
        "contents", "only the remote holds {0!s}: run it again when it can be reached"
    ),
    errors.IdentityUnfit: _unfit,
    errors.MissingObject: _by(
        "why",
        {
            "group": "it belongs to a group that you are not in: somebody who is has to push it",
            "elsewhere": "first copy the old place: dorky mirror OLD-URL origin",
        },
    ),
    errors.WrongRepository: _other_repository,
    errors.NotWriter: _asked_for,
    errors.ForgedCommit: _by("own", {True: "if it is yours: dorky commit --re-sign"}),
    errors.UnencryptedRepository: _fact(
        "cloning",
        "ask the person who set the project up; if it is meant: dorky clone {0} --plain",
    ),
    errors.Rewound: _rewound,
    errors.IdentityLost: _by("keyless", {True: _KEYLESS}),
    errors.RootMoved: _by("during", {"mirror": "run the command again"}),
    errors.RemoteNotNamed: _fact(
        "copying", "check the URL; if it is right: dorky config set remotes.{0!s}.url {1}"
    ),
    errors.CorruptDatabase: _by(
        "lost", {"keys": "bring back {0!s} from a backup, or dorky clone URL elsewhere"}
    ),
    errors.IntegrityError: _by(
        "blocks",
        {"gc": "dorky fsck: until it is repaired nothing is deleted", "pack": "dorky fsck"},
    ),
}
"""The choices of classes whose hint depends on more than the class; None means the usual one."""
