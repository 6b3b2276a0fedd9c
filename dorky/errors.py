"""The one error tree.

Each class is one thing that can go wrong. Its docstring's first paragraph **is** the message (a
format string over the arguments, so code and catalogue can't drift apart), the rest explains it
in the reference, which is generated from here.

    DorkyError
    ├── NothingToDo                 exit 1
    ├── UsageError                  exit 2
    ├── SetupError                  exit 3   not a repository, bad configuration
    ├── NotFound                    exit 4
    ├── Conflict                    exit 5   conflict or rejected
    ├── AccessError                 exit 6   no access, no key
    ├── IntegrityError              exit 7
    ├── Unavailable                 exit 8   network, disk
    └── (anything else)             exit 70  a bug in dorky
"""

from __future__ import annotations

import re
from typing import ClassVar

_CREDENTIALS = (
    # Of these schemes all that stands before the @; of others (sftp://me:secret@host) the password.
    (re.compile(r"(\b(?:https?|s3|gs|file)://)[^/\s?#]*@", re.IGNORECASE), r"\1***@"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^/\s:?#@]*:)[^/\s?#]*@", re.IGNORECASE), r"\1***@"),
    # What signs an address: S3's and GCS's presigned ones, Azure's SAS, tokens of whatever kind.
    (
        re.compile(
            r"([?&](?:x-(?:amz|goog)-(?:signature|credential|security-token)|sig|signature"
            r"|awsaccesskeyid|googleaccessid|[a-z_-]*(?:token|secret|password|passwd|api_?key"
            r"|access_?key))=)[^&\s\"'<>#]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (
        re.compile(
            r"(\b(?:proxy-)?authorization[\"']?\s*[:=]|\bx-amz-security-token[\"']?\s*[:=])[^\r\n]+",
            re.IGNORECASE,
        ),
        r"\1 ***",
    ),
    # The name of a project's state: anyone who knows it could forge one.
    (re.compile(r"(\.dorky/)[0-9a-f]{64}(?![0-9a-f])"), r"\1…"),
    (re.compile(r"\b(bearer|basic)\s+[a-z0-9._~+/=-]{16,}", re.IGNORECASE), r"\1 ***"),
)


def redacted(text: str) -> str:
    """Return a text without the credentials, and without the names of states, in it.

    Credentials are passwords before a host (``https://user:secret@host``), signatures and tokens in
    a query, and anything that follows ``Authorization:``.
    """
    for pattern, replacement in _CREDENTIALS:
        text = pattern.sub(replacement, text)
    return text


def quoted(word: object) -> str:
    """Quote a path, a name or a URL for the command in a hint: it may be anything, people paste."""
    import shlex

    return shlex.quote(str(word))


class _Word(str):
    """An argument of an error: ``{0}`` quotes it, ``{0!s}`` does not."""

    __slots__ = ()

    def __format__(self, _: str) -> str:
        return quoted(self)


class DorkyError(Exception):
    """{0}"""

    exit_code: ClassVar[int] = 70
    advice: ClassVar[str] = ""
    """The default hint: the command to run next, formatted with the same arguments, quoted."""

    def __init__(self, *args: object, hint: str | None = None) -> None:
        super().__init__(*args)
        self._hint = hint

    @property
    def code(self) -> str:
        """The stable name of this error, for scripts: the class name in kebab case."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", type(self).__name__)
        return words.lower()

    @property
    def message(self) -> str:
        """One line: what failed, and on what."""
        template = " ".join((self.__doc__ or "").split("\n\n")[0].split())
        return redacted(template.format(*self.args).removesuffix("."))

    @property
    def hint(self) -> str:
        """One line: what to run next; empty when there is nothing useful to say."""
        if self._hint is not None:
            return redacted(self._hint)
        return redacted(self.advice.format(*(_Word(word) for word in self.args)))

    def __str__(self) -> str:
        return self.message


# --- 1: nothing to do -----------------------------------------------------------------------


class NothingToDo(DorkyError):
    """{0}."""

    exit_code = 1


# --- 2: usage -------------------------------------------------------------------------------


class UsageError(DorkyError):
    """{0}."""

    exit_code = 2


class OutsideWorktree(UsageError):
    """{0} is outside the project at {1}.

    Paths given to a command must lie inside the directory that holds `.dorkyrc`.
    """


class EmptyMessage(UsageError):
    """The commit message is empty."""

    advice = 'dorky commit -m "say what changed"'


class UnstorablePath(UsageError):
    """{0} can't be stored: {1}.

    dorky keeps regular files and symbolic links whose names every common system can hold.
    Sockets, devices and pipes have no content to keep. Names that Windows can't create may be
    allowed for one project with `dorky config set portable_names false`.
    """


class BadURL(UsageError):
    """{0} is not a remote URL: {1}."""

    advice = "use s3://bucket/prefix, gs://bucket/prefix, file:///dir or a plain path"


class BadRecipient(UsageError):
    """{0} is no public key that dorky can seal to: {1}.

    Those are age keys, SSH keys of the types ed25519 and RSA (2048 to 4096 bits), and AWS KMS
    keys. Of what may be a secret, the message shows nothing.
    """

    advice = "give age1…, the line of an SSH key's .pub file, or awskms:ARN"


class BadDocument(UsageError):
    """{0} can't be read as {1}: {2}.

    The message names a line at most, never what stands there: it may be a secret.
    """

    advice = "dorky edit {0}"


class CantExport(UsageError):
    """{0} can't be written for {1}: {2}.

    Not every reader can be told every value: an env-file of docker, for one, has no quotes.
    """

    advice = "use another form, or leave the variable out"


class UnsafeVariable(UsageError):
    """{0} sets {1}, which changes how programs are found, loaded or run.

    A person who may write the file could run code with everybody who uses it. Refused are the
    names that the dynamic linker, shells, interpreters, git, build tools and others take orders
    from, such as `LD_PRELOAD`, `PATH`, `BASH_ENV`, `NODE_OPTIONS` or `MAKEFILES`: the guide on
    secrets lists them.
    """

    advice = "if that is meant: dorky run --allow-env {1} …"


# --- 3: set-up ------------------------------------------------------------------------------


class SetupError(DorkyError):
    """{0}."""

    exit_code = 3


class NotARepository(SetupError):
    """Not a dorky repository (or any parent directory): {0}.

    As in git, parents on another file system are looked at only if
    `GIT_DISCOVERY_ACROSS_FILESYSTEM` is set, and those in `GIT_CEILING_DIRECTORIES` never.
    """

    advice = "dorky init, or dorky clone URL"


class NoWorktree(SetupError):
    """There is no worktree: {0} was opened without one.

    A program has opened the repository alone, without a directory of files. What reads or writes
    local files, or a path on the disk, needs a project with one.
    """


class NotSetUp(SetupError):
    """{0} has not been set up on this machine yet.

    The project carries a `.dorkyrc`, but nothing has been fetched from its remote.
    """

    advice = "dorky pull"


class UntrustedState(SetupError):
    """The state directory {0} is not used: {1}.

    `.dorky/` must be a directory of yours, not a link: a git branch can bring either. Nothing in
    it, or behind it, was read or changed.
    """

    advice = "if you did not make it so, delete or move {0}; then dorky pull"


class ForeignState(SetupError):
    """The state in {0} was not made with your key on this machine.

    It was copied from another machine, restored without `~/.dorky/state.key`, made with another
    `DORKY_IDENTITY`, or brought by a git branch. Nothing in it is believed before you say so.
    """

    advice = "dorky trust shows it and asks; if it is not yours: rm -r {1}*"


class OldState(SetupError):
    """The state in {0} has the layout from before the first release."""

    advice = "push with the dorky that made it, delete {0}/dorky.db, then dorky pull"


class UnsoundState(SetupError):
    """The state in {0} can't be taken over: {1}."""

    advice = "delete it, then dorky pull; or bring back ~/.dorky/state.key from a backup"


class UntrustedStateKey(SetupError):
    """The key {0}, which tells your state from planted state, is not used: {1}."""

    advice = "delete it; in each project, dorky trust then takes over the state"


class NoStateKey(SetupError):
    """There is no place for the key that tells your state from planted state: {0}."""

    advice = "set HOME to a directory that you can write to, or set DORKY_IDENTITY"


class AlreadyARepository(SetupError):
    """There is a dorky repository at {0} already."""

    advice = "dorky status"


class BadConfig(SetupError):
    """{0} is malformed: {1}."""

    advice = "correct the file, or see `dorky config list`"


class DubiousOwnership(SetupError):
    """Dubious ownership: {0} belongs to {1}.

    The owner of a project's directory, its `.dorkyrc`, its `.git` and its state decides where your
    secrets go, and may change what is run for you. So it has to be you (under sudo, the user who
    called it), as git demands of its repositories. `safe.directory` in `~/.dorky/config`, or in
    git's system and global configuration, names directories that you trust all the same.
    """

    advice = "if you trust that user: dorky config set --add safe.directory {2}"


class WritableByAll(SetupError):
    """Every user of this machine may change {0}.

    `safe.directory` is no way around this: it trusts an owner, and not everyone.
    """

    advice = "chmod o-w {0}"


class ConfigTooNew(SetupError):
    """{0} was written by a newer dorky (format {1}, this one reads up to {2})."""

    advice = "install a newer dorky, then run the command again"


class FormatTooNew(SetupError):
    """{0} was written by a newer dorky (format {1})."""

    advice = "install a newer dorky, then run the command again"


class NoRemote(SetupError):
    """This project has no remote named {0}."""

    advice = "dorky remote add {0} s3://bucket/prefix"


class RemoteNotNamed(SetupError):
    """There is no repository at {0}, which only `.dorkyrc` names{1}.

    A push would start one there, with all that this clone has. `.dorkyrc` can be changed by
    anybody's git branch, so dorky does that only at a place that you have named by a command.
    """

    advice = "check the URL; if it is right: dorky remote set-url origin {0}"


class RemoteExists(SetupError):
    """There is a remote named {0} already."""

    advice = "dorky remote set-url {0} URL"


class NoDriver(SetupError):
    """No driver for {0}: URLs."""

    advice = "known schemes: {1!s}"


class MissingLibrary(SetupError):
    """{0} needs the Python package {1}, which can't be imported."""

    advice = "pip install {1}"


# --- 4: not found ---------------------------------------------------------------------------


class NotFound(DorkyError):
    """{0}."""

    exit_code = 4


class PathNotFound(NotFound):
    """{0} matches no file."""

    advice = "dorky status shows what is here"


class PathNotTracked(NotFound):
    """{0} is not tracked by dorky{1}."""

    advice = "dorky ls"


class NoSuchMember(NotFound):
    """Nobody on the team is called {0}."""

    advice = "dorky team list"


class NoSuchGroup(NotFound):
    """There is no group {0}."""

    advice = "dorky group list"


class NoSuchVariable(NotFound):
    """{0} has no {1}."""


class CommandUnusable(NotFound):
    """{0} can't be run: {1}."""

    advice = "check its name; dorky run -- COMMAND takes a program, not a line for a shell"


class UnknownRevision(NotFound):
    """{0} is not a revision here."""

    advice = "dorky log --oneline"


class AmbiguousRevision(NotFound):
    """{0} is ambiguous: it begins {1}."""

    advice = "give more digits"


class NoCommits(NotFound):
    """There are no commits yet."""

    advice = 'dorky stage FILE && dorky commit -m "first"'


class KeyNotFound(NotFound):
    """There is no object {0} in {1}.

    Raised by drivers when the store answers that a key does not exist.
    """


class BucketNotFound(NotFound):
    """The bucket of {0} does not exist."""

    advice = "check the URL in .dorkyrc, or create the bucket"


class NoRepositoryAtURL(NotFound):
    """{0} holds no dorky repository."""

    advice = "check the URL; dorky init starts a new repository"


class KMSKeyNotFound(NotFound):
    """There is no KMS key {0}."""

    advice = "check the ARN, and whose account it names"


class RootVanished(NotFound):
    """The root of {0} is gone, though this clone has seen it.

    Somebody deleted or moved the repository in the bucket, or the URL points elsewhere now.
    dorky never makes a new root in place of one it has seen, because that would hide a loss.
    """

    advice = "check the URL; restore PREFIX/root from the bucket's versions or a backup"


# --- 5: conflict or rejected ----------------------------------------------------------------


class Conflict(DorkyError):
    """{0}."""

    exit_code = 5


class PreconditionFailed(Conflict):
    """The object {0} in {1} is not at the expected version.

    Raised by drivers when a compare-and-swap finds another version than the one named.
    """


class Rejected(Conflict):
    """Push to {0} rejected: it has commits that you don't have: {1}."""

    advice = "dorky sync (pulls, merges and pushes), or dorky pull"


class Diverged(Conflict):
    """Your commits and those of {0} can't be merged: {1}."""


class Unresolved(Conflict):
    """The merge has left conflicts: {0}."""

    advice = (
        "edit the files, then dorky resolve FILE (or with --ours, or --theirs) and "
        "dorky merge --continue; to give up: dorky merge --abort"
    )


class StillMarked(Conflict):
    """{0} has conflict markers still (line {1})."""

    advice = "edit it, or take one side: dorky resolve {0} --ours (or --theirs)"


class MergeInProgress(Conflict):
    """A merge of {0} is in progress."""

    advice = "dorky merge --continue, or dorky merge --abort"


class RepositoryExists(Conflict):
    """{0} holds a dorky repository already."""

    advice = "dorky clone {0}"


class LocalChanges(Conflict):
    """Local changes would be overwritten: {0}."""

    advice = "dorky stage and commit them, or add --force (a backup is kept)"


class GitTracked(Conflict):
    """git tracks {0}."""

    advice = "git rm --cached -- {0}"


class GitDoesNotIgnore(Conflict):
    """git still does not ignore {0}, whatever .gitignore says."""

    advice = "a later rule un-ignores it: git check-ignore -v --no-index {0}"


class NameClash(Conflict):
    """{0} and {1} are the same name on a case-insensitive system."""

    advice = "rename one of them"


class FileChanged(Conflict):
    """{0} keeps changing while it is being read."""

    advice = "stop the program that writes it, then run the command again"


class Locked(Conflict):
    """Another dorky is at work here ({0})."""

    advice = "wait for it to finish, then run the command again"


class Misplaced(Conflict):
    """{0} belongs to {1}, but commit {2} holds it for others.

    It was committed before its path became the group's. Every commit of a push is checked, because
    others can read all that is in the remote. `dorky sync --rewrite` writes the commits that are
    not pushed again, with each file encrypted for its owner; the old ones are never sent.
    """

    advice = "dorky sync --rewrite"


class LeftGroup(Conflict):
    """Commit {0} changes files of the group {1}, which you are not in any more.

    It was committed before you were taken out of the group, so nothing here can encrypt it for
    those who are in it. `dorky sync --rewrite` leaves these changes out of the commits that are
    not pushed; files stay on this disk.
    """

    advice = "dorky sync --rewrite"


class WouldOpen(Conflict):
    """{0} holds what is only for the group {1}; {2} would be able to read it.

    Its content comes from a file of the group: it was moved, restored from an older commit, or the
    group's pattern has ended. dorky opens nothing to more readers without being told so.
    """


class NotPulled(Conflict):
    """The files of the group {0} are not here yet.

    You have been let into the group, but what is checked out is from before.
    """

    advice = "dorky pull"


class Detached(Conflict):
    """You are looking at the old revision {0}, not at main."""

    advice = "dorky checkout main"


class SwapsIgnored(Conflict):
    """{0} ignores conditional writes, so two people pushing at once would lose work.

    dorky needs the bucket to honour `If-Match` and `If-None-Match` on PUT (generation
    preconditions on GCS). Some S3-compatible servers accept the headers and ignore them.
    """

    advice = (
        "use another server, or mark the remote as having one writer ever: "
        "dorky config set remotes.{1}.single_writer true"
    )


class WouldLockOut(Conflict):
    """You would lock yourself out: {0} is you, and only a member who stays can let you in."""

    advice = "if you mean it: dorky team remove {0} --yes"


class NotConfirmed(Conflict):
    """Not confirmed: nothing was {0}."""

    advice = "answer the question on a terminal, or add --yes"


class EditorFailed(Conflict):
    """The editor ended with exit code {0}: nothing was changed."""

    advice = "$VISUAL or $EDITOR names the editor"


class NotSaved(Conflict):
    """What you wrote for {0} was not saved but kept in {2}: {1}."""

    advice = "dorky edit {0}, take what you need from there, then delete it"


# --- 6: access ------------------------------------------------------------------------------


class AccessError(DorkyError):
    """{0}."""

    exit_code = 6


class NoCredentials(AccessError):
    """No credentials for {0}: {1}."""

    advice = "aws configure (or AWS_PROFILE), or gcloud auth application-default login"


class ExpiredCredentials(AccessError):
    """The credentials for {0} have expired."""

    advice = "log in again (aws sso login, or renew the token)"


class NotAllowed(AccessError):
    """{0} chooses {1} for {2}, which you have not allowed yet.

    `.dorkyrc` comes with a git clone. A profile can run a program, and a server is sent requests
    that are signed with your credentials, with their session token. So dorky uses neither before
    you have allowed it, once for each bucket, server and profile. What you name on the command
    line, in the environment (`AWS_PROFILE`, `AWS_ENDPOINT_URL`) or in `~/.dorky/config` is
    allowed by that.
    """

    advice = "if that is right: dorky remote allow {2} --endpoint URL --profile NAME"


class AccessDenied(AccessError):
    """Access to {0} denied: {1}."""

    advice = "check the bucket's policy and which account you use"


class IdentityMissing(AccessError):
    """No age identity: {0} does not exist.

    A sealed repository is opened with an age identity: a secret key that only you hold.
    """

    advice = "dorky key gen, or dorky key use PATH"


class IdentityMalformed(AccessError):
    """{0} holds no age identity (a line that begins AGE-SECRET-KEY-1) and no SSH key."""

    advice = "it is a line AGE-SECRET-KEY-1…, without quotes, or an SSH private key"


class IdentityExposed(AccessError):
    """{0} can be read by other users (mode {1})."""

    advice = "chmod 600 {0}"


class UnusableIdentity(AccessError):
    """{0} holds an SSH key that can't be used: {1}."""

    advice = "use an SSH key of the type ed25519, or an age identity"


class WrongPassphrase(AccessError):
    """The passphrase does not open {0}."""

    advice = "type it again; DORKY_PASSPHRASE or DORKY_SSH_PASSPHRASE may hold another"


class IdentityCommandFailed(AccessError):
    """The program that prints your identity ({0}) failed: {1}."""

    advice = "run the command in DORKY_IDENTITY_CMD by hand"


class KMSKeyUnusable(AccessError):
    """The KMS key {0} can't be used: {1}."""

    advice = "aws kms describe-key --key-id {0}"


class NoKey(AccessError):
    """This repository is not sealed for you (your key: {0})."""

    advice = "dorky team join, then tell a member of the team the fingerprint that it prints"


class ForeignGroup(AccessError):
    """{0} belongs to the group {1}, which you are not in.

    A file is sealed with its group's key, which only the group's members have.
    """

    advice = "ask one of them: dorky group members {1}"


class AmbiguousGroup(AccessError):
    """{0} belongs to the groups {1} and {2}: their patterns overlap.

    A file is sealed for one group. dorky does not choose, because a member of one could otherwise
    take the files of the other by a wider pattern.
    """

    advice = "dorky group list; then dorky group remove NAME PATTERN for one of them"


class NotInGroup(AccessError):
    """You are not in the group {0}, whose members alone can change it."""

    advice = "dorky group list"


class UnreadableFile(AccessError):
    """{0} can't be read: {1}."""


# --- 7: integrity ---------------------------------------------------------------------------

_FSCK = "dorky fsck, or for the bucket dorky fsck --remote --read-data: they say what remedies it"


class IntegrityError(DorkyError):
    """{0}."""

    exit_code = 7


class CorruptObject(IntegrityError):
    """Object {0} is damaged: {1}."""

    advice = _FSCK


class CorruptPack(IntegrityError):
    """Pack {0} is damaged: {1}."""

    advice = _FSCK


class CorruptRoot(IntegrityError):
    """The root of {0} is damaged: {1}."""

    advice = "restore PREFIX/root from the bucket's versions; nothing local was changed"


class TooLarge(IntegrityError):
    """{0} in {1} is larger than the {2} that it may have.

    dorky reads what a remote holds up to a limit, so that nobody who can write to the remote fills
    the memory of those who read it.
    """

    advice = "find out who wrote it; restore it from the bucket's versions, or delete it"


class NotAFile(IntegrityError):
    """{0} in {1} is {2}, not a file.

    In a directory that several people share, a link, a pipe or a device in place of a file would
    lead the others' dorky elsewhere, so it is never followed or opened.
    """

    advice = "find out who put it there, then delete it"


class MissingObject(IntegrityError):
    """Object {0} is missing.

    Something that is kept refers to an object that no pack, here or in the remote, holds.
    """

    advice = _FSCK


class MissingPack(IntegrityError):
    """Pack {0} is listed by the root of {1} but is not there."""

    advice = "dorky fsck --remote; another clone, a backup or the bucket's versions may have it"


class WrongRepository(IntegrityError):
    """{0} holds another repository ({1}) than this project's ({2})."""

    advice = "check the URL in .dorkyrc"


class WrongKey(IntegrityError):
    """{0} is sealed with another key ({1}) than the one expected ({2}).

    Fingerprints are those of `.dorkyrc`, shortened. A new key is accepted if it leads back to the
    one that was known, as it does after a rotation. Otherwise somebody replaced the repository in
    the bucket, put an older one back, or tampered with its keys; or `.dorkyrc` is not this
    project's.
    """

    advice = "ask the person who set the project up before you go on"


class Unencrypted(IntegrityError):
    """The repository at {0} is not encrypted, and nothing says that this is meant.

    Anyone who can read that place could read what you push, and anyone who can write to it could
    change what you pull. A project that is not encrypted on purpose says so in `.dorkyrc`
    (`repository.unencrypted`); `dorky init --plain` and `dorky clone --plain` write that.
    """

    advice = "ask the person who set the project up; if it is meant: dorky {1!s} --plain"


class KMSMismatch(IntegrityError):
    """Altered, or not sealed with the KMS key {0} for this repository."""


class ForgedGroup(IntegrityError):
    """The group {0} was changed by somebody who is not in it, in the root of {1}.

    A group's members and the files that it closes are authenticated with the group's key. Somebody
    on the team who does not have that key has changed them, or put an older state back.
    """

    advice = "ask who pushed last; nothing local was changed"


class Rewound(IntegrityError):
    """{0} is older than what this clone has seen, or leads elsewhere (generation {1}, seen {2}).

    The bucket's owner restored an old root, or somebody replays one to hide later commits.
    """

    advice = "ask who restored it; nothing local was changed; to follow: dorky pull --accept-rewind"


class BadKnown(IntegrityError):
    """What you have seen of the repository can't be read from {0}: {1}.

    It tells dorky when a remote has been rewound. Without it nothing is fetched. Delete it only if
    you trust what the remote holds now: the next pull makes it again.
    """

    advice = "delete it, if you trust the remote as it is now"


class HistoryReplaced(IntegrityError):
    """{0} has another history than before: its newest commit does not descend from {1}.

    Nothing that dorky does takes commits away, but for `dorky purge`, which says so. Somebody
    with a key has written a root by other means, or an old state was restored and pushed to.
    """

    advice = "ask who did it; nothing local was changed; to follow: dorky pull --accept-rewind"


class UnsafePath(IntegrityError):
    """The remote holds a path that dorky will not write: {0}."""


class CorruptDatabase(IntegrityError):
    """The local database {0} is damaged: {1}."""

    advice = "dorky fsck --repair"


class StateLost(IntegrityError):
    """The state of {0} is gone, and with it {1} that no remote has, the newest of {2}.

    Git deletes ignored directories (`git clean -fdx`, or a branch with a file of that name). A
    second copy of what was not pushed lies in git's own directory, and nothing new is begun before
    it is back. To give it up instead, delete `dorky/` in git's directory.
    """

    advice = "dorky fsck --repair"


class BadSpare(IntegrityError):
    """The second copy of unpushed work in {0} can't be used: {1}."""

    advice = "bring back ~/.dorky/state.key from a backup; if nothing in it is wanted: rm -r {0}"


class Damaged(IntegrityError):
    """{0} damaged or missing.

    Each finding has been listed, with its remedy.
    """

    advice = "dorky fsck --repair, if nothing else is said above"


# --- 8: network and disk --------------------------------------------------------------------


class Unavailable(DorkyError):
    """{0}."""

    exit_code = 8


class Unreachable(Unavailable):
    """{0} can't be reached: {1}."""

    advice = "check the network and the endpoint, then run the command again"

    def __init__(self, *args: object, hint: str | None = None, lasting: bool = False) -> None:
        super().__init__(*args, hint=hint)
        self.lasting = lasting
        """Whether waiting seldom helps: unknown name, refused connection, bad certificate."""


class ServerBusy(Unavailable):
    """{0} answered that it can't serve the request now: {1}."""

    advice = "run the command again"

    def __init__(
        self, *args: object, hint: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(*args, hint=hint)
        self.retry_after = retry_after
        """Seconds the server asked for (its Retry-After header), if it did."""


class WrongRegion(Unavailable):
    """The bucket of {0} is in another region{1}."""

    advice = "add --region REGION, or: dorky config set remotes.origin.region REGION"


class BadEndpoint(Unavailable):
    """{0} does not answer like the storage service it should be: {1}."""

    advice = "check the endpoint"


class OutcomeUnknown(Unavailable):
    """{0} did not answer whether the push took effect."""

    advice = "run dorky push again: it is safe"


class DiskFull(Unavailable):
    """No space left on the disk of {0}."""

    advice = "free some space, then run the command again; nothing was lost"


class DiskError(Unavailable):
    """{0}: {1}."""

    advice = "repair that (is the disk full, or read-only?), then run the command again"
