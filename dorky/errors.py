"""The one error tree.

Each class is one thing that can go wrong. Its docstring's first paragraph **is** the message (a
format string over the arguments, so code and catalogue can't drift apart), the rest explains it
in the reference, which is generated from here. The command to run next is the border's to name
(`cli/hints.py`): it knows how dorky was called.

    DorkyError
    ├── NothingToDo                 exit 1
    ├── BadRequestError             exit 2   wrong usage
    ├── SetupError                  exit 3   not a repository, bad configuration
    ├── NotFoundError               exit 4
    ├── ConflictError               exit 5   conflict or rejected
    ├── AccessError                 exit 6   no access, no key
    ├── IntegrityError              exit 7
    ├── Unavailable                 exit 8   network, disk
    └── (anything else)             exit 70  a bug in dorky
"""

from __future__ import annotations

import builtins
import re
from typing import ClassVar


class DorkyError(Exception):
    """{0}"""

    exit_code: ClassVar[int] = 70
    status_code: ClassVar[int | None] = None
    """The HTTP status that says the same; None if none does."""
    retryable: bool = False
    """Whether the same call may succeed later, without any change."""
    retry_after: float | None = None
    """Seconds that the server asked to wait for, if it did."""

    def __init__(self, *args: object, **facts: object) -> None:
        super().__init__(*args)
        self.facts = facts
        """Particulars that the message leaves out, for those who advise the user."""

    @property
    def code(self) -> str:
        """The stable name of this error, for scripts: the class name in kebab case."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", type(self).__name__)
        return words.lower()

    @property
    def message(self) -> str:
        """One line: what failed, and on what."""
        from dorky.redaction import redacted  # late: most commands meet no error

        template = " ".join((self.__doc__ or "").split("\n\n")[0].split())
        return redacted(template.format(*self.args).removesuffix("."))

    def __str__(self) -> str:
        return self.message


# --- 1: nothing to do -----------------------------------------------------------------------


class NothingToDo(DorkyError):
    """{0}."""

    exit_code = 1


class NothingStaged(NothingToDo):
    """Nothing is staged."""


class NothingToSave(NothingStaged):
    """Nothing to save: the files are as they were committed."""


class NoMerge(NothingToDo):
    """No merge is in progress."""


class AlreadyAdmitted(NothingToDo):
    """You can read this repository already."""


class RoleHeldAlready(NothingToDo):
    """{0} is {1} already."""


class KeyHeldAlready(NothingToDo):
    """{0} has that key already."""


# --- 2: usage -------------------------------------------------------------------------------


class BadRequestError(DorkyError):
    """{0}."""

    exit_code = 2
    status_code = 400


class UsageError(BadRequestError):
    """{0}."""


class OutsideWorktree(UsageError):
    """{0} is outside the project at {1}.

    Paths given to a command must lie inside the directory that holds `.dorkyrc`.
    """


class EmptyMessage(UsageError):
    """The commit message is empty."""


class UnstorablePath(UsageError):
    """{0} can't be stored: {1}.

    dorky keeps regular files and symbolic links whose names every common system can hold.
    Sockets, devices and pipes have no content to keep. Names that Windows can't create may be
    allowed for one project with `dorky config set portable_names false`.
    """


class SpecialFile(UnstorablePath):
    """{0} can't be stored: it is {1}.

    A socket, device or pipe that is found in a directory is left out.
    """


class BadURL(UsageError):
    """{0} is not a remote URL: {1}."""


class BadRecipient(UsageError):
    """{0} is no public key that dorky can encrypt to: {1}.

    Those are age keys, SSH keys of the types ed25519 and RSA (2048 to 4096 bits), and AWS KMS
    keys. Of what may be a secret, the message shows nothing.
    """


class BadDocument(UsageError):
    """{0} can't be read as {1}: {2}.

    The message names a line at most, never what stands there: it may be a secret.
    """


class BadPublicKey(UsageError):
    """{0} holds no public key that verifies signatures: {1}.

    Those are keys of the types P-256, P-384, Ed25519 and RSA (2048 to 4096 bits), in PEM or as SSH
    keys.
    """


class BadPredicate(UsageError):
    """{0} can't be attested: {1}.

    An attestation has a type, which is a URI or one word, and says something as a JSON object.
    """


class BadSBOM(UsageError):
    """{0} can't be attached as an SBOM: {1}.

    SBOMs are SPDX or CycloneDX. JSON has to be of the format that it says it is; other forms (XML,
    tag-value) are kept as they are. None may have more than 16 MiB.
    """


class CantExport(UsageError):
    """{0} can't be written for {1}: {2}.

    Not every reader can be told every value: an env-file of docker, for one, has no quotes.
    """


class UnsafeVariable(UsageError):
    """{0} sets {1}, which changes how programs are found, loaded or run.

    A person who may write the file could run code with everybody who uses it. Refused are the
    names that the dynamic linker, shells, interpreters, git, build tools and others take orders
    from, such as `LD_PRELOAD`, `PATH`, `BASH_ENV`, `NODE_OPTIONS` or `MAKEFILES`: the guide on
    secrets lists them.
    """


class BadPackage(UsageError):
    """{0} can't be kept as a Python package: {1}.

    Wheels and source distributions are kept whose filename, and whose metadata, name the same
    project and version.
    """


class BadLock(UsageError):
    """The lock {0} can't be used: {1}.

    Files are fetched by the URL and the SHA-256 that a `pylock.toml` names.
    """


class BadRequirement(UsageError):
    """The requirements can't be used: {0}.

    A requirement names a project of an index, and may say which versions. A directory, a repository
    or a URL has no hash that could be compared.
    """


class EmptyPath(UsageError):
    """A path is empty.

    It may come from a shell variable that is not set, so it does not mean everything.
    """


class OnlyContents(UsageError):
    """Paths say which contents to fetch, and no contents are wanted."""


class IgnoredPath(UsageError):
    """{0} is ignored by .dorkyignore."""


class NestedProject(UsageError):
    """{0} belongs to another project, at {1}.

    A directory with a `.dorkyrc`, a git repository and a submodule are projects of their own. What
    lies in them is not kept with the files of the directories above.
    """


class DirectoryNamed(UsageError):
    """{0} is a directory."""


class NotADocument(UsageError):
    """{0} is not a .env, JSON, TOML or YAML file."""


class UnusableName(UsageError):
    """{0} in {1} can't be a variable's name."""


class UnusableValue(UsageError):
    """{0} in {1} holds a NUL character, which no variable can."""


class BadName(UsageError):
    """A {0} can't be named {1}."""


class BadPattern(UsageError):
    """{0} is no pattern of paths in the project."""


class BadFingerprint(UsageError):
    """A fingerprint has 64 hex digits, unlike {0}."""


class BadPin(UsageError):
    """An entry of the team log is named by N:ID, unlike {0}."""


class BadRange(UsageError):
    """{0} has three dots."""


class BadMetadata(UsageError):
    """{0} can't be kept as metadata: {1}."""


class ReadOnlyClient(UsageError):
    """This client looks at the version {0}, and can't change anything."""


class CantPickle(UsageError):
    """A client that was given {0} can't be pickled: set {1} in the workers' environment instead."""


class TooManyRevisions(UsageError):
    """A diff has two sides, these are more."""


class UnknownSetting(UsageError):
    """There is no setting {0}."""


class CredentialsInSetting(UsageError):
    """{0} can't hold credentials."""


class UsersSetting(UsageError):
    """{0} is yours, not the project's."""


class ProjectsSetting(UsageError):
    """{0} is the project's."""


class NoBuckets(UsageError):
    """{0} is in no bucket that dorky can administer."""


class BadBucketName(UsageError):
    """No bucket can be named {0}."""


class NotABucket(UsageError):
    """{0} is a place in a bucket, not a bucket."""


class NoProject(UsageError):
    """Nothing says which of Google's projects {0} belongs to."""


class OtherReaders(UsageError):
    """{0} is for {1}, not for {2}."""


class PublicHalf(UsageError):
    """{0} is the public half of a key."""


class ShortPassphrase(UsageError):
    """A passphrase has at least {0} characters."""


class TooManyKeys(UsageError):
    """{0}.

    What a root can hold is limited: the keys of a member, those of all groups, passphrases.
    """


class TooManyGroups(UsageError):
    """A repository has at most {0} groups, those that have ended included."""


class TooManyEpochs(UsageError):
    """The repository has had {0} keys, as many as a root has room for."""


class NobodyLeft(UsageError):
    """Nobody would be left who can read this repository."""


class EmptyGroup(UsageError):
    """Nobody would be left in the group {0}."""


class OutsideOwnGroup(UsageError):
    """You would lock yourself out."""


class OwnRemoval(UsageError):
    """You can't remove yourself."""


class CanOnlyRead(UsageError):
    """{0} can only be a reader: an age key alone signs nothing."""


class UnsoundTeam(UsageError):
    """The team can't be changed so: {0}."""


class UselessKeys(UsageError):
    """No key of yours would be used."""


class TooFewOperations(UsageError):
    """Only {0} operations are known."""


class MergeForgotten(UsageError):
    """The state before the merge is not known any more: it began too long ago."""


class SeveralStates(UsageError):
    """{0} holds several states: {1}."""


# --- 3: set-up ------------------------------------------------------------------------------


class SetupError(DorkyError):
    """{0}."""

    exit_code = 3


class ExtraMissing(SetupError):
    """This needs {0}, which is not installed.

    Some commands stand on packages that dorky installs only if asked, by an extra.
    """


class NoHome(SetupError):
    """You have no home directory."""


class NoSuchHome(SetupError):
    """{0}: there is no home directory of that name."""


class GitMissing(SetupError):
    """{0} is in git, but git can't be run."""


class GitFailed(SetupError):
    """git in {0}: {1}."""


class IgnoreFileIsLink(SetupError):
    """{0} is a symbolic link, which git does not follow."""


class NotARepository(SetupError):
    """Not a dorky repository (or any parent directory): {0}.

    As in git, parents on another file system are looked at only if
    `GIT_DISCOVERY_ACROSS_FILESYSTEM` is set, and those in `GIT_CEILING_DIRECTORIES` never.
    """


class NoWorktree(SetupError):
    """There is no worktree: {0} was opened without one.

    A program has opened the repository alone, without a directory of files. What reads or writes
    local files, or a path on the disk, needs a project with one.
    """


class NotSetUp(SetupError):
    """{0} has not been set up on this machine yet.

    The project carries a `.dorkyrc`, but nothing has been fetched from its remote.
    """


class UntrustedState(SetupError):
    """The state directory {0} is not used: {1}.

    `.dorky/` must be a directory of yours, not a link: a git branch can bring either. Nothing in
    it, or behind it, was read or changed.
    """


class BadStateDirectory(SetupError):
    """DORKY_DIR can't be {0}: {1}.

    dorky keeps the local state there instead of in `.dorky/`. The directory must be yours alone,
    outside of the project, and hold nothing else; dorky makes it if it does not exist.
    """


class ForeignState(SetupError):
    """The state in {0} was not made with your key on this machine.

    It was copied from another machine, restored without `~/.dorky/state.key`, made with another
    `DORKY_IDENTITY`, or brought by a git branch. Nothing in it is believed before you say so.
    """


class OldState(SetupError):
    """The state in {0} has the layout from before the first release."""


class UnsoundState(SetupError):
    """The state in {0} can't be taken over: {1}."""


class UntrustedStateKey(SetupError):
    """The key {0}, which tells your state from planted state, is not used: {1}."""


class NoStateKey(SetupError):
    """There is no place for the key that tells your state from planted state: {0}."""


class AlreadyARepository(SetupError):
    """There is a dorky repository at {0} already."""


class BadConfig(SetupError):
    """{0} is malformed: {1}."""


class BadSigners(SetupError):
    """{0} is no sound list of signers: {1}.

    It has the format of OpenSSH's allowed_signers: names, perhaps options, and a public key on each
    line.
    """


class DubiousOwnership(SetupError):
    """Dubious ownership: {0} belongs to {1}.

    The owner of a project's directory, its `.dorkyrc`, its `.git` and its state decides where your
    secrets go, and may change what is run for you. So it has to be you (under sudo, the user who
    called it), as git demands of its repositories. `safe.directory` in `~/.dorky/config`, or in
    git's system and global configuration, names directories that you trust all the same.
    """


class WritableByAll(SetupError):
    """Every user of this machine may change {0}.

    `safe.directory` is no way around this: it trusts an owner, and not everyone. A disk without
    permissions has to be mounted with ``umask=022``.
    """


class ConfigTooNew(SetupError):
    """{0} was written by a newer dorky (format {1}, this one reads up to {2})."""


class FormatTooNew(SetupError):
    """{0} was written by a newer dorky (format {1})."""


class FormatTooOld(SetupError):
    """{0} was written by an earlier, unreleased version of dorky (format {1})."""


class NoRemote(SetupError):
    """This project has no remote named {0}."""


class NoProjectFile(NoRemote):
    """There is no `.dorkyrc` in {0}, so no remote named {1} is known.

    A git branch from before dorky has none. The files that dorky keeps stay where they are.
    """


class RemoteNotNamed(SetupError):
    """There is no repository at {0}, which only `.dorkyrc` names{1}.

    A push would start one there, with all that this clone has. `.dorkyrc` can be changed by
    anybody's git branch, so dorky does that only at a place that you have named by a command.
    """


class RemoteExists(SetupError):
    """There is a remote named {0} already."""


class UsedBeforeFork(SetupError):
    """This process was forked from one that had used S3, whose library can't go on in it.

    Its requests would never end. Start such processes by spawn (or by forkserver), or use the
    client in the parent only after the fork.
    """


class NoDriver(SetupError):
    """No driver for {0}: URLs."""


class MissingLibrary(SetupError):
    """{0} needs the Python package {1}, which can't be imported."""


# --- 4: not found ---------------------------------------------------------------------------


class NotFoundError(DorkyError):
    """{0}."""

    exit_code = 4
    status_code = 404


class NoSuchPackage(NotFoundError):
    """There is no Python package {0} in {1}."""


class NoPackages(NotFoundError):
    """There are no Python packages in {0}.

    An index of nothing is not published: it would delete all that an earlier one has published.
    """


class NoSolution(NotFoundError):
    """The requirements can't be met for {0}: {1}.

    The resolver's words follow the colon. Wheels alone are taken unless source distributions are
    asked for, since those run code of their authors'.
    """


class OnlySources(NoSolution):
    """{1} has no wheel for {0}.

    It has source distributions, which run code of their authors' when they are built.
    """


class PathNotFound(NotFoundError):
    """{0} matches no file."""


class NotFetched(NotFoundError):
    """The content of {0} is not on this machine, and the remote must not be asked."""


class NotCached(NotFoundError):
    """The cache lacks {1} of {0}, and the remote must not be asked."""


class PathNotTracked(NotFoundError):
    """{0} is not tracked by dorky{1}."""


class NoSuchFile(NotFoundError, FileNotFoundError):
    """There is no file {0} in {1}."""


class NoSuchMember(NotFoundError):
    """Nobody on the team is called {0}."""


class NoSuchKey(NotFoundError):
    """{0} has no key {1}."""


class NoSuchGroup(NotFoundError):
    """There is no group {0}."""


class NoSuchPattern(NotFoundError):
    """The group {0} has no pattern {1}."""


class NoSuchVariable(NotFoundError):
    """{0} has no {1}."""


class NoConflict(NotFoundError):
    """{0} has no conflict."""


class NoSuchState(NotFoundError):
    """No state in {0} begins with {1}."""


class CommandUnusable(NotFoundError):
    """{0} can't be run: {1}."""


class NoAttestation(NotFoundError):
    """{0} has no {1}."""


class UnknownRevision(NotFoundError):
    """{0} is not a revision here."""


class AmbiguousRevision(NotFoundError):
    """{0} is ambiguous: it begins {1}."""


class NoCommits(NotFoundError):
    """There are no commits yet."""


class KeyNotFound(NotFoundError):
    """There is no object {0} in {1}.

    Raised by drivers when the store answers that a key does not exist.
    """


class BucketNotFound(NotFoundError):
    """The bucket of {0} does not exist."""


class NoRepositoryAtURL(NotFoundError):
    """{0} holds no dorky repository."""


class KMSKeyNotFound(NotFoundError):
    """There is no KMS key {0}."""


class RootVanished(NotFoundError):
    """The root of {0} is gone, though this clone has seen it.

    Somebody deleted or moved the repository in the bucket, or the URL points elsewhere now.
    dorky never makes a new root in place of one it has seen, because that would hide a loss.
    """


# --- 5: conflict or rejected ----------------------------------------------------------------


class ConflictError(DorkyError):
    """{0}."""

    exit_code = 5
    status_code = 409


class PreconditionFailed(ConflictError):
    """The object {0} in {1} is not at the expected version.

    Raised by drivers when a compare-and-swap finds another version than the one named.
    """

    status_code = 412


class UpdateConflict(ConflictError):
    """{0} is not as you last saw it: {1}, so it is {2}.

    Nothing was overwritten. Read the file again, and decide; `force` overwrites it, and its history
    keeps both. Versions of the content are shown by keyed hashes.
    """


class IdempotencyKeyReused(ConflictError):
    """The idempotency key {0} was used for another upload, of {1}."""


class PackageHeld(ConflictError):
    """{0} is in {1} already, with other content.

    The files of a version never change: installers pin them by their hashes. Give what has changed
    a new version, or a wheel another build number.
    """


class ProjectClosed(ConflictError):
    """{0} takes no files: it is {1}."""


class IsADirectory(ConflictError):
    """{0} is a directory in the repository, not a file."""


class NotADirectory(ConflictError):
    """{0} can't be kept: {1} is a file in the repository."""


class BatchError(ConflictError):
    """{0} of the batch failed, the first of them {1}: {2}.

    The others are done; `result` has the outcome for each.
    """


class Rejected(ConflictError):
    """Push to {0} rejected: it has commits that you don't have: {1}."""


class Diverged(ConflictError):
    """Your commits and those of {0} can't be merged: {1}."""


class Unresolved(ConflictError):
    """The merge has left conflicts: {0}."""


class StillMarked(ConflictError):
    """{0} has conflict markers still (line {1})."""


class MergeInProgress(ConflictError):
    """A merge of {0} is in progress."""


class RepositoryExists(ConflictError):
    """{0} holds a dorky repository already."""


class LocalChanges(ConflictError):
    """Local changes would be overwritten: {0}."""


class NeverPulled(ConflictError):
    """{0} was never pulled here, and the last commit holds another version of it.

    Staging yours would replace a version that nobody has looked at in this clone, as a pull of some
    paths alone leaves it.
    """


class SourceCode(ConflictError):
    """What looks like source code would be kept by dorky, not by git: {0}.

    Files that git tracks are left out when a directory is staged, and files that are named are
    taken. This is about files that a directory or a pattern brings along.
    """


class ManyFiles(ConflictError):
    """The first stage of this project would take {0} files.

    A directory of dependencies, build results or caches may be among them. Later ones may take any
    number.
    """


class ManyDeletions(ConflictError):
    """The commit would delete {0} of {1} files, for everybody.

    A command that cleans up may have taken them away. The limits are more than ten files, and more
    than half of all.
    """


class GitTracked(ConflictError):
    """git tracks {0}."""


class GitDoesNotIgnore(ConflictError):
    """git still does not ignore {0}, whatever .gitignore says."""


class NameClash(ConflictError):
    """{0} and {1} are the same name on a case-insensitive system."""


class FileChanged(ConflictError):
    """{0} keeps changing while it is being read."""


class RootMoved(ConflictError):
    """The state at {0} has changed since the plan was made."""


class CopyIsNewer(ConflictError):
    """{0} holds a newer state than {1}.

    A mirror goes forward only. Perhaps the two places were mixed up, the source was set back, or
    somebody has pushed to the copy.
    """


class CopyOfAnother(ConflictError):
    """{0} holds another repository ({1}) than {2} ({3})."""


class CopyDiverged(ConflictError):
    """{0} holds changes that {1} lacks.

    Only the mirror may write to a copy: what somebody pushes there is in no other place.
    """


class Locked(ConflictError):
    """Another dorky is at work here ({0})."""


class Misplaced(ConflictError):
    """{0} belongs to {1}, but commit {2} holds it for others.

    It was committed before its path became the group's. Every commit of a push is checked, because
    others can read all that is in the remote. `dorky sync --rewrite` writes the commits that are
    not pushed again, with each file encrypted for its owner; the old ones are never sent.
    """


class LeftGroup(ConflictError):
    """Commit {0} changes files of the group {1}, which you are not in any more.

    It was committed before you were removed from the group, so nothing here can encrypt it for
    those who are in it. `dorky sync --rewrite` leaves these changes out of the commits that are
    not pushed; files stay on this disk.
    """


class WouldOpen(ConflictError):
    """{0} holds what is only for the group {1}; {2} would be able to read it.

    Its content comes from a file of the group: it was moved, restored from an older commit, or the
    group's pattern has ended. dorky opens nothing to more readers without being told so.
    """


class NotPulled(ConflictError):
    """The files of the group {0} are not here yet.

    You have been let into the group, but what is checked out is from before.
    """


class Detached(ConflictError):
    """You are looking at the old revision {0}, not at main."""


class PushedMeanwhile(ConflictError):
    """Somebody has pushed meanwhile."""


class PlanOutdated(ConflictError):
    """There are commits since the plan."""


class OutOfStep(ConflictError):
    """Your commits and the remote's differ."""


class Unshared(ConflictError):
    """There are commits that are not pushed, or not pulled."""


class ChangesStaged(ConflictError):
    """Changes to {0} are staged."""


class PatternsOverlap(ConflictError):
    """{0} overlaps {1} of the group {2}."""


class MemberExists(ConflictError):
    """There is a {0} on the team already."""


class TokenExists(ConflictError):
    """{0} has a token called {1} already."""


class KeyTaken(ConflictError):
    """That key is {0}'s already."""


class KeyExists(ConflictError):
    """{0} exists, and a key is never overwritten."""


class StateChanged(ConflictError):
    """The state has changed since it was shown."""


class BucketExists(ConflictError):
    """The bucket of {0} exists: {1}."""


class BucketNotEmpty(ConflictError):
    """The bucket of {0} is not empty: it holds {1}."""


class SwapsIgnored(ConflictError):
    """{0} ignores conditional writes, so two people pushing at once would lose work.

    dorky needs the bucket to honour `If-Match` and `If-None-Match` on PUT (generation
    preconditions on GCS). Some S3-compatible servers accept the headers and ignore them.
    """


class SwapsUnsupported(ConflictError):
    """{0} does not support conditional writes: {1}.

    dorky needs the bucket to honour `If-Match` and `If-None-Match` on PUT (generation
    preconditions on GCS). Some S3-compatible servers refuse requests with these headers; a proxy
    that compresses may change the versions (ETags) that they name.
    """


class WouldLockOut(ConflictError):
    """You would lock yourself out: {0} is you, and only a member who stays can let you in."""


class NotConfirmed(ConflictError):
    """Not confirmed: nothing was {0}."""


class EditorFailed(ConflictError):
    """The editor ended with exit code {0}: nothing was changed."""


class NotSaved(ConflictError):
    """What you wrote for {0} was not saved but kept in {2}: {1}."""


# --- 6: access ------------------------------------------------------------------------------


class AccessError(DorkyError):
    """{0}."""

    exit_code = 6


class UnauthorizedError(AccessError):
    """{0}."""

    status_code = 401


class ForbiddenError(AccessError):
    """{0}."""

    status_code = 403


class NoCredentials(UnauthorizedError):
    """No credentials for {0}: {1}."""


class ExpiredCredentials(UnauthorizedError):
    """The credentials for {0} have expired."""


class NotAllowed(ForbiddenError):
    """{0} chooses {1} for {2}, which you have not allowed yet.

    `.dorkyrc` comes with a git clone. A profile can run a program, and a server is sent requests
    that are signed with your credentials, with their session token. So dorky uses neither before
    you have allowed it, once for each bucket, server and profile. What you name on the command
    line, in the environment (`AWS_PROFILE`, `AWS_ENDPOINT_URL`) or in `~/.dorky/config` is
    allowed by that.
    """


class AccessDenied(ForbiddenError):
    """Access to {0} denied: {1}."""


class ReadOnlyRemote(ForbiddenError):
    """{0} is read-only: {1}.

    Anybody can clone, pull and download from a remote at ``https://``. Its owners push to the
    bucket or the directory that the web server shows.
    """


class PrivateHost(ForbiddenError):
    """{0} is on a private or loopback address, and you have not allowed that.

    A URL in `.dorkyrc` comes with a git clone, and could send requests of yours to hosts that
    only you can reach. So dorky connects to public addresses alone, whatever a name resolves to,
    except for hosts that you name in ``DORKY_PRIVATE_HOSTS`` or `~/.dorky/config`.
    """


class ClockSkew(UnauthorizedError):
    """{0} refuses requests because this machine's clock is wrong: {1}.

    Requests are signed with the time, and stores refuse those that are more than some minutes off.
    """


class IdentityMissing(UnauthorizedError):
    """No age identity: {0} does not exist.

    An encrypted repository is opened with an age identity: a secret key that only you hold.
    """


class IdentityMalformed(UnauthorizedError):
    """{0} holds no age identity (a line that begins AGE-SECRET-KEY-1) and no SSH key."""


class IdentityExposed(UnauthorizedError):
    """{0} can be read by other users (mode {1})."""


class IdentityLost(UnauthorizedError):
    """Your key is not in {0} any more; its public half is in {1}.

    dorky made the key there, and puts no other into its place: it may open what no other key does.
    A backup, or the repository's recovery key, opens everything again.
    """


class IdentityUnfit(UnauthorizedError):
    """None of your usable keys opens this repository: {0}."""


class UnusableIdentity(UnauthorizedError):
    """{0} holds an SSH key that can't be used: {1}."""


class WrongPassphrase(UnauthorizedError):
    """The passphrase does not open {0}."""


class NotWriter(ForbiddenError):
    """You may not {0} at {1}: {2}.

    Readers can pull, but nobody accepts what they push. Administrators can change the team.
    """


class CantSign(UnauthorizedError):
    """Nothing can be signed with the key in {0}: nobody gave its passphrase.

    Every commit is signed with the key of its author.
    """


class SigningKeyMissing(UnauthorizedError):
    """No signing key: {0} does not exist."""


class BadSigningKey(UnauthorizedError):
    """{0} holds no key that dorky can sign with: {1}.

    Those are private keys of the types P-256, P-384, Ed25519 and RSA (2048 to 4096 bits), in PEM or
    in OpenSSH's format.
    """


class IdentityCommandFailed(UnauthorizedError):
    """The program that prints your identity ({0}) failed: {1}."""


class KMSKeyUnusable(UnauthorizedError):
    """The KMS key {0} can't be used: {1}."""


class NoKey(ForbiddenError):
    """This repository is not encrypted for you (your key: {0})."""


class CopyUnknown(ForbiddenError):
    """Without a key, nothing tells whether {0} holds an earlier state of {1}.

    A copy that is made without a key takes the place of what such a copy has put there before, and
    of nothing else.
    """


class ForeignGroup(ForbiddenError):
    """{0} belongs to the group {1}, which you are not in.

    A file is encrypted with its group's key, which only the group's members have.
    """


class AmbiguousGroup(ForbiddenError):
    """{0} belongs to the groups {1} and {2}: their patterns overlap.

    A file is encrypted for one group. dorky does not choose, because a member of one could
    otherwise take the files of the other by a wider pattern.
    """


class NotInGroup(ForbiddenError):
    """You are not in the group {0}, whose members alone can change it."""


class UnreadableFile(ForbiddenError):
    """{0} can't be read: {1}."""


class UnwritableFile(UnreadableFile):
    """{0} can't be written: {1}."""


# --- 7: integrity ---------------------------------------------------------------------------


class IntegrityError(DorkyError):
    """{0}."""

    exit_code = 7


class CorruptObject(IntegrityError):
    """Object {0} is damaged: {1}."""


class CorruptPack(IntegrityError):
    """Pack {0} is damaged: {1}."""


class CorruptTable(IntegrityError):
    """Table {0} is damaged: {1}.

    A table says in which packs a remote's objects lie. It can be made again from the packs.
    """


class CorruptRoot(IntegrityError):
    """The root of {0} is damaged: {1}."""


class TooLarge(IntegrityError):
    """{0} in {1} is larger than the {2} that it may have.

    dorky reads what a remote holds up to a limit, so that nobody who can write to the remote fills
    the memory of those who read it.
    """


class NotAFile(IntegrityError):
    """{0} in {1} is {2}, not a file.

    In a directory that several people share, a link, a pipe or a device in place of a file would
    lead the others' dorky elsewhere, so it is never followed or opened.
    """


class BadBundle(IntegrityError):
    """{0} is no sound bundle: {1}.

    A bundle holds one signed statement about one file, as in-toto, DSSE and Sigstore define it.
    A malformed one is not valid, even if its signature is.
    """


class MissingObject(IntegrityError):
    """Object {0} is missing.

    Something that is kept refers to an object that no pack, here or in the remote, holds.
    """


class MissingPack(IntegrityError):
    """Pack {0} is listed by the root of {1} but is not there."""


class WrongRepository(IntegrityError):
    """{0} holds another repository ({1}) than this project's ({2})."""


class WrongKey(IntegrityError):
    """{0} is encrypted with another key ({1}) than the one expected ({2}).

    Fingerprints are those of `.dorkyrc`, shortened. A new key is accepted if it leads back to the
    one that was known, as it does after a rotation. Otherwise somebody replaced the repository in
    the bucket, put an older one back, or tampered with its keys; or `.dorkyrc` is not this
    project's.
    """


class UnencryptedRepository(IntegrityError):
    """The repository at {0} is not encrypted, and nothing says that this is meant.

    Anyone who can read that place could read what you push, and anyone who can write to it could
    change what you pull. A project that is not encrypted on purpose says so in `.dorkyrc`
    (`repository.unencrypted`); `dorky init --plain` and `dorky clone --plain` write that.
    """


class KMSMismatch(IntegrityError):
    """Altered, or not encrypted with the KMS key {0} for this repository."""


class ForgedGroup(IntegrityError):
    """The group {0} was changed by somebody who is not in it, in the root of {1}.

    A group's members and the files that it closes are authenticated with the group's key. Somebody
    on the team who does not have that key has changed them, or put an older state back.
    """


class ForgedRoot(IntegrityError):
    """The state at {0} is not to be trusted: {1}.

    Every state of a remote is signed by a member who may write, and changes of the team by one who
    administers it. Somebody else with access to the bucket has written this one, or has put an
    older team in place of the present one. Nothing was changed.
    """


class WrongTeam(IntegrityError):
    """The team log at {0} has another entry {1} than `.dorkyrc` pins.

    `.dorkyrc` names an entry of the team log, so that nobody can put another team in the place of
    yours. Somebody with access to the bucket has tried to, or a git branch has brought another pin.
    """


class TeamRewound(IntegrityError):
    """The team log at {0} has {1} entries, and `.dorkyrc` pins entry {2}.

    The remote was put back to a state from before the last change of the team, or `.dorkyrc` is of
    another repository.
    """


class ForgedCommit(IntegrityError):
    """Commit {0} is not by a member of the team: {1}.

    Each commit is signed with its author's key, and the team log says whose keys count. Somebody
    with access to the bucket has written it by hand.
    """


class Unsigned(IntegrityError):
    """{0} is not signed: {1}.

    The rules for signatures in `.dorkyrc` (or yours in `~/.dorky/config`) demand that somebody
    vouches for the file before it is used. Nothing was changed on disk.
    """


class BadSignature(IntegrityError):
    """{0} is not signed by those who have to: {1}.

    There are signatures, but not as many as demanded count: the key is not trusted, or was not at
    that time, or the signature is of another content or version, or of another repository. Nothing
    was changed on disk.
    """


class Rewound(IntegrityError):
    """{0} is older than what this clone has seen, or leads elsewhere (generation {1}, seen {2}).

    The bucket's owner restored an old root, or somebody replays one to hide later commits.
    """


class BadKnown(IntegrityError):
    """What you have seen of the repository can't be read from {0}: {1}.

    It tells dorky when a remote has been rewound. Without it nothing is fetched. Delete it only if
    you trust what the remote holds now: the next pull makes it again.
    """


class HistoryReplaced(IntegrityError):
    """{0} has another history than before: its newest commit does not descend from {1}.

    Nothing that dorky does takes commits away, but for `dorky purge`, which says so. Somebody
    with a key has written a root by other means, or an old state was restored and pushed to.
    """


class UnsafePath(IntegrityError):
    """The remote holds a path that dorky will not write: {0}."""


class CorruptDatabase(IntegrityError):
    """The local database {0} is damaged: {1}."""


class StateLost(IntegrityError):
    """The state of {0} is gone, and with it {1} that no remote has, the newest of {2}.

    Git deletes ignored directories (`git clean -fdx`, or a branch with a file of that name). A
    second copy of what was not pushed lies in git's own directory, and nothing new is begun before
    it is back. The state may also lie elsewhere, if `DORKY_DIR` was another when it was made. To
    give the copy up instead, delete `dorky/` in git's directory.
    """


class BadSpare(IntegrityError):
    """The second copy of unpushed work in {0} can't be used: {1}."""


class BadRecord(IntegrityError):
    """{0} can't be used: {1}.

    The records of Python packages are made from the files themselves, and checked when they are
    read. Somebody has written this one, or its file, by other means.
    """


class UnexpectedFile(IntegrityError):
    """{0} is not what it should be: {1}.

    Its bytes have another hash than the lock, the index or the requirements say. Nothing was kept.
    """


class HashNotNamed(UnexpectedFile):
    """{0} can't be checked: the requirements do not name its hash (--hash=sha256:…)."""


class Damaged(IntegrityError):
    """{0} damaged or missing.

    Each finding has been listed, with its remedy.
    """


# --- 8: network and disk --------------------------------------------------------------------


class Unavailable(DorkyError):
    """{0}."""

    exit_code = 8


class NotMounted(Unavailable):
    """{0} is missing or empty, though this clone has seen a repository in it.

    It is a directory on a disk that is not plugged in, or not mounted, most likely. Nothing is
    written into the place where it belongs.
    """


class Unreachable(Unavailable):
    """{0} can't be reached: {1}."""

    status_code = 503

    def __init__(self, *args: object, lasting: bool = False, **facts: object) -> None:
        super().__init__(*args, **facts)
        self.lasting = lasting
        self.retryable = not lasting
        """Whether waiting seldom helps: unknown name, refused connection, bad certificate."""


class TimeoutError(Unreachable, builtins.TimeoutError):
    """{0} can't be reached: {1}."""

    status_code = 504


class ServerBusy(Unavailable):
    """{0} answered that it can't serve the request now: {1}."""

    status_code = 503
    retryable = True

    def __init__(self, *args: object, retry_after: float | None = None, **facts: object) -> None:
        super().__init__(*args, **facts)
        self.retry_after = retry_after


class RateLimitedError(ServerBusy):
    """{0} asks for fewer requests: {1}."""

    status_code = 429


class InternalServerError(ServerBusy):
    """{0} has met an error of its own: {1}."""

    status_code = 500


class ServiceUnavailableError(ServerBusy):
    """{0} can't serve the request now: {1}."""


class WrongRegion(Unavailable):
    """The bucket of {0} is in another region{1}."""


class BadEndpoint(Unavailable):
    """{0} does not answer like the storage service it should be: {1}."""


class OutcomeUnknown(Unavailable):
    """{0} did not answer whether the push took effect."""

    status_code = 503
    retryable = True


class DiskFull(Unavailable):
    """No space left on the disk of {0}."""


class NoRoom(DiskFull):
    """The disk of {0} has {1} free, and {2} are needed.

    That is for all files that a command is going to write and fetch: it has not begun.
    """


class DiskError(Unavailable):
    """{0}: {1}."""


class ReadOnly(DiskError):
    """{0} can't be written: it is read-only here.

    Commands that only read work on a read-only mount, and in a checkout that you may not write to.
    They read a copy of the local database in memory.
    """
