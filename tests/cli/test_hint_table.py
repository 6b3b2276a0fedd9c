"""Commands are named at the border alone: the library says what failed, `hints` what to run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import dorky
from dorky import errors
from dorky.cli import hints
from dorky.cli.main import everything
from dorky.results import Check, Finding, Remedy

PACKAGE = Path(dorky.__file__).parent
LIBRARY = [path for path in sorted(PACKAGE.rglob("*.py")) if "cli" not in path.parts]
COMMANDS = [name for name, command in everything().commands.items() if not command.hidden]
LINE = re.compile(rf"\bdorky ({'|'.join(COMMANDS)})\b")


def texts(tree: ast.AST) -> Iterator[ast.Constant]:
    """The strings of a module, but for docstrings."""
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_library_names_no_command(path: Path) -> None:
    tree = ast.parse(path.read_text())
    named = [
        f"{path}:{text.lineno}: {text.value}" for text in texts(tree) if LINE.search(text.value)
    ]
    assert not named
    hinting = [
        call.lineno for call in calls(tree) if "hint" in {word.arg for word in call.keywords}
    ]
    assert not hinting, f"{path}: only the command line's own errors carry their hint"


def test_the_scan_sees_a_command() -> None:
    tree = ast.parse('"""Run dorky pull."""\nx = f"if so: dorky pull {y}"\nf(hint="")')
    assert [text.value for text in texts(tree) if LINE.search(text.value)] == ["if so: dorky pull "]


def test_a_command_in_a_hint_exists() -> None:
    for kind, text in hints.TEXTS.items():
        for word in re.findall(r"\bdorky ([a-z]+)\b", text):
            if word not in {"that", "must", "deletes", "shows"}:
                assert word in COMMANDS, (kind, text)


def test_every_remedy_has_words() -> None:
    made = {
        call.args[0].value
        for path in LIBRARY
        for call in calls(ast.parse(path.read_text()))
        if isinstance(call.func, ast.Name) and call.func.id == "Remedy"
        if isinstance(call.args[0], ast.Constant)
    }
    assert made == set(hints.REMEDIES)
    for what in made:
        assert "{" not in hints.remedy(Remedy(what, ("a b", "c d")))


def test_a_finding_is_told_with_its_remedy() -> None:
    found = Finding(code="x", subject="y", about="z", remedy=Remedy("touch", ("a b",)))
    said = "if a b is as it was: touch 'a b', then dorky stage 'a b'"
    assert hints.finding_in_words(found).remedy == said
    assert hints.finding_in_words(hints.finding_in_words(found)).remedy == said
    failed = Check(
        name="x", verdict="fail", about="y", remedy=Remedy("not-set-up", error=errors.NotSetUp("x"))
    )
    assert hints.check_in_words(failed).remedy == "dorky pull"
    assert hints.remedy(Remedy("stage", ("a b", "c"))) == "dorky stage 'a b' c"


def test_a_hint_of_a_class_holds_for_those_below_it() -> None:
    class Own(errors.NoRemote):
        """{0} is missing."""

    assert hints.hint(Own("x")) == "dorky remote add x s3://bucket/prefix"
    assert hints.hint(errors.CorruptPack("x", "y", blocks="gc")).startswith("dorky fsck: until")


def test_credentials_are_taken_out_of_what_the_choice_is_made_of() -> None:
    said = hints.hint(errors.Rewound("x", 1, 2, cloning="https://me:hunter2@host/x"))
    assert "hunter2" not in said


CHOSEN = [
    (errors.UnstorablePath("a/b", "x", link="a"), "stage the link itself, or the file by its real"),
    (errors.UnstorablePath("a", "x", repository="b c"), "echo '/b c/' >> .dorkyignore"),
    (errors.UnstorablePath("a", "x"), ""),
    (errors.BadRecipient("x", "y", kind="secret"), "give its public half, which age-keygen -y"),
    (errors.BadRecipient("x", "y", kind="kms"), "give awskms:arn:aws:kms:REGION"),
    (errors.BadRecipient("x", "y"), "give age1…"),
    (errors.IgnoredPath("x"), "add --force"),
    (errors.IgnoredPath("x", during="edit"), "remove it from there first"),
    (errors.DirectoryNamed("a b", revision="v 1"), "dorky ls 'v 1' 'a b'"),
    (errors.DirectoryNamed("x"), "name a file"),
    (errors.NotADocument("x", read_from="HEAD:a b"), "dorky cat 'HEAD:a b'"),
    (errors.NotADocument("a b"), "dorky edit 'a b'"),
    (errors.BadConfig("x", "y", file="exposed"), "remove them, and change them"),
    (errors.BadConfig("x", "y", file="certificates"), "see AWS_CA_BUNDLE"),
    (errors.BadConfig("a b", "y", file="own"), "rm 'a b'"),
    (errors.BadConfig("x", "y"), "correct the file"),
    (errors.DubiousOwnership("x", "y", "z", place="home"), "set HOME to your own home"),
    (errors.DubiousOwnership("x", "y", "a b", place="git"), "git config --global --add safe.dir"),
    (errors.DubiousOwnership("x", "y", "a b"), "if you trust that user: dorky config set --add"),
    (errors.PathNotTracked("x", "", purge="Ana purged it"), "Ana purged it"),
    (
        errors.PathNotTracked("x", "", purge="Ana", purging=True),
        "Ana; for what the bucket has left",
    ),
    (errors.PathNotTracked("x", "", purge="", revision="v 1"), "dorky ls 'v 1'"),
    (errors.PathNotTracked("x", "", purge="", purging=True), "dorky ls"),
    (errors.NoSuchVariable("x", "y", near="YY"), "did you mean YY?"),
    (errors.NoSuchVariable("x", "y", near=None), ""),
    (errors.UnknownRevision("x", root="ab"), "ab has no parent"),
    (errors.NoRepositoryAtURL("x", unpushed=True), "check the URL; dorky push starts it"),
    (errors.NoRepositoryAtURL("x", unpushed=False), "check the URL; dorky init starts"),
    (errors.Diverged("x", "y", over="contested"), "dorky group list"),
    (errors.Diverged("x", "y", over="names"), "rename yours with mv"),
    (errors.Diverged("x", "y", over="left group"), "dorky sync --rewrite leaves out"),
    (errors.LocalChanges("x", during="download"), "choose another name, or add --force"),
    (errors.LocalChanges("x", during="rm"), "commit them, or add --cached"),
    (errors.LocalChanges("x", during="edit"), "it was changed just now: begin again"),
    (errors.LocalChanges("x", undoing=1), "dorky undo --force (a backup is kept)"),
    (errors.LocalChanges("x", undoing=3), "dorky undo 3 --force (a backup is kept)"),
    (errors.LocalChanges("x"), "dorky stage and commit them, or add --force"),
    (errors.Misplaced("a b", "y", "z", heirs="ben"), "give the file to ben, then: dorky rm --cac"),
    (errors.Misplaced("x", "y", "z", heirs=""), "give the file to a member, then: dorky rm"),
    (errors.Misplaced("x", "y", "z"), "dorky sync --rewrite"),
    (errors.WouldOpen("a b", "x", "all"), "if they may: dorky stage 'a b' --for all"),
    (
        errors.WouldOpen("x", "y", "all", command="resolve"),
        "if they may: dorky resolve x --for all",
    ),
    (
        errors.WouldOpen("x", "y", "all", command="restore", revision="HEAD~2"),
        "if they may: dorky restore x --source 'HEAD~2' --for all",
    ),
    (
        errors.WouldOpen("x", "y", "all", committed=True),
        "if they may: dorky stage x --for all && dorky commit -m ..., then again",
    ),
    (errors.NotSaved("x", "y", "z", cause=errors.DiskFull("w")), "free some space"),
    (errors.NotSaved("x", "y", "z"), "dorky edit x, take what you need"),
    (errors.ExpiredCredentials("x", cloud="google"), "log in again: gcloud auth"),
    (errors.NotAllowed("x", "y", "s3://b", endpoint="", profile="a b"), "if that is right: dorky"),
    (errors.AccessDenied("x", "y", to="kms"), "check the key's policy"),
    (errors.IdentityMissing("x"), "dorky key gen"),
    (errors.NoKey("x", author="Ana"), "dorky team join, then tell Ana, who committed .dorkyrc,"),
    (errors.NoKey("x", author=""), "dorky team join, then tell a member of the team"),
    (errors.NoKey("x", place="/a b"), "DORKY_URL='/a b' dorky team join, then tell a member"),
    (errors.NoKey("x", author="", locked="~/k"), "if the key in ~/k should: set DORKY_SSH_PASS"),
    (errors.UnusableIdentity("/a b", "y", needs="format"), "ssh-keygen -p -f '/a b' converts it"),
    (errors.UnusableIdentity("stdin", "y", needs="format"), "ssh-keygen -p -f FILE converts it"),
    (errors.UnusableIdentity("x", "y", needs="cipher"), "ssh-keygen -p -Z aes256-ctr"),
    (errors.MissingObject("x", why="group"), "it belongs to a group that you are not in"),
    (errors.MissingObject("x", why="elsewhere"), "first copy the old place: dorky mirror OLD"),
    (errors.WrongRepository("x", "y", "z", noted_in="/a b"), "git log -p .dorkyrc; if the project"),
    (
        errors.UnencryptedRepository("x"),
        "ask the person who set the project up; if it is meant: dorky pull",
    ),
    (errors.Rewound("x", 1, 2, cloning="/a b"), "ask who restored it; to follow: dorky clone"),
    (errors.Rewound("x", 1, 2, copying=True), "ask who restored it; to copy it all the same"),
    (errors.RootMoved("x", during="mirror"), "run the command again"),
    (errors.NoKey("x", keyless=True), "add --keyless"),
    (errors.IdentityLost("/x", "/y", keyless=True), "add --keyless"),
    (errors.SwapsIgnored("x", "copy", copying="two"), "use another server, or if nobody else"),
    (errors.SwapsUnsupported("x", "y", copying="s3://b"), "use another server, or name it"),
    (errors.RemoteNotNamed("/x", "", copying="two"), "check the URL; if it is right: dorky config"),
    (errors.CorruptDatabase("/x", "y", lost="keys"), "bring back /x from a backup"),
    (errors.CorruptObject("x", "y", blocks="gc"), "dorky fsck: until it is repaired"),
    (errors.CorruptPack("x", "y", blocks="pack"), "dorky fsck"),
]


@pytest.mark.parametrize(("error", "hint"), CHOSEN, ids=lambda value: type(value).__name__)
def test_the_hint_that_is_chosen(error: errors.DorkyError, hint: str) -> None:
    said = hints.hint(error)
    assert said.startswith(hint)
    assert bool(said) == bool(hint)


def test_every_fact_is_one_that_a_hint_knows() -> None:
    """A misspelt fact would be passed over in silence."""
    known = {text.value for text in texts(ast.parse(Path(hints.__file__).read_text()))}
    seen = set()
    for path in LIBRARY:
        if path.name == "client.py" or path.parent.name == "library":
            continue  # the facts of their errors are for callers: what is there, and since when
        for call in calls(ast.parse(path.read_text())):
            function = call.func
            if isinstance(function, ast.Attribute) and function.attr in vars(errors):
                for word in call.keywords:
                    if word.arg in {None, "lasting", "retry_after"}:
                        continue
                    assert word.arg in known, f"{path}:{call.lineno}: {word.arg}"
                    seen.add(word.arg)
                    if isinstance(word.value, ast.Constant) and isinstance(word.value.value, str):
                        assert word.value.value in known, (
                            f"{path}:{call.lineno}: {word.value.value}"
                        )
    assert {"during", "over", "why", "file"} <= seen
