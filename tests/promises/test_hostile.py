"""A stranger in the bucket, or a member who means harm: what they write is refused or harmless.

In a plain repository whoever writes to the bucket makes history, in a sealed one a member does.
Eve writes objects as no dorky would, and Ben, who has a clone, pulls.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cramjam
import pytest
import snapshots
from attacks import DIRECTORY, LINK, RawForge
from attacks import READABLE as FILE
from depth import deep
from machines import Machine, Said, files, started
from servers import Remote

from dorky import errors
from dorky.format import codec, model
from dorky.format.model import ALL, Chunk, Chunks, Kind
from dorky.keys import age, vault
from dorky.remote import root as roots

AFTER_THE_FACT = "checkout.apply finds it when other files have been replaced or deleted already"


class World(NamedTuple):
    eve: Machine
    ben: Machine
    outside: Path
    url: str

    def everything(self) -> dict[str, tuple[int, bytes]]:
        """All that Ben has: his files, and what lies around them."""
        found = {f"project/{name}": what for name, what in files(self.ben.project).items()}
        found |= {f"outside/{name}": what for name, what in files(self.outside).items()}
        found |= {f"home/{name}": what for name, what in files(self.ben.home).items()}
        rc = self.ben.project / ".dorkyrc"
        return found | {"rc": (0, rc.read_bytes())}

    def refused(self, *arguments: object, codes: Sequence[int] = (7,)) -> Said:
        """Run a command of Ben's that must fail and change nothing."""
        before = self.everything()
        said = self.ben.run(*arguments)
        assert said.code in codes, f"{arguments}: {said}"
        assert self.everything() == before
        return said


@pytest.fixture(params=["sealed", *deep("plain")])
def world(request: pytest.FixtureRequest, tmp_path: Path, file_url: Remote) -> World:
    options = ["--plain"] if request.param == "plain" else []
    content = {".env": "KEY=1\n", "config/app.toml": "debug = false\n"}
    eve = started(tmp_path / "eve", file_url, content, *options)
    ben = eve.another("ben")

    def make() -> None:
        ben("clone", file_url.url, ".", *options)

    snapshots.once([ben.base, Path(file_url.url)], make, "cloned", *options)
    outside = tmp_path / "ben" / "outside"
    outside.mkdir()
    (outside / "theirs").write_text("theirs")
    return World(eve, ben, outside, file_url.url)


@pytest.fixture
def forge(world: World) -> Iterator[RawForge]:
    with world.eve.repo() as repo:
        yield RawForge(repo)


def test_a_gift_that_is_none(world: World, forge: RawForge) -> None:
    """What the others differ from: well formed, it is taken."""
    forge.publish(forge.commit(forge.tree(forge.file("fine"))))
    world.ben("pull")
    assert files(world.ben.project) == {"fine": (FILE, b"evil")}


# --- where files land -----------------------------------------------------------------------

PATHS = ["..", ".", "", "../x", "/etc/x", "a/b", "a\0b", "../../outside/theirs"]


def test_names_that_lead_elsewhere(world: World, forge: RawForge) -> None:
    inner = forge.tree(forge.file("hooks"))

    def trees(name: str) -> list[str]:
        below = {"name": "below", "mode": DIRECTORY, "content": forge.tree(forge.file(name))}
        return [
            forge.tree(forge.file(name)),
            forge.tree({"name": name, "mode": DIRECTORY, "content": inner}),
            forge.tree({"name": name, "mode": LINK, "content": forge.chunk(b"/"), "size": 1}),
            forge.tree(below),
        ]

    for shape, name in zip(itertools.cycle(range(4)), PATHS, strict=False):
        forge.publish(forge.commit(trees(name)[shape]))
        assert world.refused("pull", "--force").error.isprintable()
    for tree in trees("../x"):
        forge.publish(forge.commit(tree))
        world.refused("pull")
        world.refused("ls", "origin/main")
        world.refused("show", "origin/main")
        world.refused("checkout", "origin/main", "--force")
        world.refused("download", "origin/main:x", "here", codes=(4, 7))
    # What was good before is still of use.
    world.ben("ls", "main")
    world.ben("restore", ".env")


def test_nothing_is_left_of_a_clone_that_is_refused(world: World, forge: RawForge) -> None:
    forge.publish(forge.commit(forge.tree(forge.file("a"), forge.file("../x"))))
    world.refused("clone", world.url, "elsewhere")
    assert not (world.ben.project / "elsewhere").exists()


def test_a_link_of_bens_is_not_written_through(world: World, forge: RawForge) -> None:
    (world.ben.project / "a").symlink_to(world.outside)
    inner = forge.tree(forge.file("theirs"))
    forge.publish(forge.commit(forge.tree({"name": "a", "mode": DIRECTORY, "content": inner})))
    world.refused("pull", codes=(5, 7))
    world.refused("checkout", "origin/main", codes=(5, 7))
    before = files(world.outside)
    world.ben.run("pull", "--force")
    assert files(world.outside) == before


def test_a_link_that_becomes_a_directory_is_not_written_through(
    world: World, forge: RawForge
) -> None:
    target = bytes(world.outside)
    link = {"name": "a", "mode": LINK, "content": forge.chunk(target), "size": len(target)}
    forge.publish(forge.commit(forge.tree({**link, "sha256": ""})))
    world.ben("pull")
    assert (world.ben.project / "a").readlink() == world.outside
    before = files(world.outside)
    inner = forge.tree(forge.file("theirs"))
    tree = forge.tree({"name": "a", "mode": DIRECTORY, "content": inner})
    forge.publish(forge.commit(tree, parents=[forge.commit(forge.tree({**link, "sha256": ""}))]))
    world.ben.run("pull")
    world.ben.run("pull", "--force")
    assert files(world.outside) == before


def test_a_dorkyrc_does_not_come_with_a_pull(world: World, forge: RawForge) -> None:
    rc = b'version = 2\n[remotes.origin]\nurl = "/somewhere/else"\n'
    forge.publish(forge.commit(forge.tree(forge.file(".dorkyrc", rc))))
    before = (world.ben.project / ".dorkyrc").read_bytes()
    said = world.ben("pull")
    assert ".dorkyrc" in said.err
    assert (world.ben.project / ".dorkyrc").read_bytes() == before


@pytest.mark.parametrize("mode", [0o104755, 0o102755, 0o020666, 0o140755, 0, -1, 1 << 70])
def test_files_that_are_more_than_files(world: World, forge: RawForge, mode: int) -> None:
    forge.publish(forge.commit(forge.tree(forge.file("a"), forge.file("b", mode=mode))))
    world.refused("pull")


@pytest.mark.parametrize("target", [b"", b"a\0b", b"\0", b"x" * 5000], ids=lambda t: ascii(t[:5]))
def test_links_to_nowhere_that_can_be(world: World, forge: RawForge, target: bytes) -> None:
    link = {"name": "a", "mode": LINK, "content": forge.chunk(target), "size": len(target)}
    forge.publish(forge.commit(forge.tree(link)))
    world.refused("pull", codes=(7, 8))


# --- objects that are not what they should be -----------------------------------------------


def test_objects_of_another_kind(world: World, forge: RawForge) -> None:
    chunk, tree = forge.chunk(b'{"entries":[]}'), forge.tree()
    pieces = forge.add(Kind.CHUNKS, model.encode(Chunks((Chunk(chunk, 14),))))
    nested = forge.add(Kind.CHUNKS, model.encode(Chunks((Chunk(pieces, 14),))))
    commit = forge.commit(tree)
    heads = [
        *(tree, chunk, pieces),
        *(forge.commit(each) for each in (chunk, pieces, commit)),
        *(forge.commit(tree, parents=[each]) for each in (chunk, tree, pieces)),
        *(
            forge.commit(forge.tree({"name": "a", "mode": DIRECTORY, "content": each}))
            for each in (chunk, pieces, commit)
        ),
        *(
            forge.commit(forge.tree(forge.file("a", content=each, size=14)))
            for each in (tree, commit, nested)
        ),
    ]
    for head in heads:
        forge.publish(head)
        for command in ("pull", "status", "log", "ls", "fetch"):
            assert world.ben.run(command).code in {0, 5, 7}


def test_objects_that_are_not_there(world: World, forge: RawForge) -> None:
    nothing = "ab" * 32
    for head in (
        nothing,
        forge.commit(nothing),
        forge.commit(forge.tree(), parents=[nothing]),
        forge.commit(forge.tree(forge.file("a"), forge.file("b", content=nothing))),
        forge.commit(forge.tree({"name": "a", "mode": DIRECTORY, "content": nothing})),
    ):
        forge.publish(head)
        world.refused("pull")


@pytest.mark.parametrize("size", [0, 3, 5, 1 << 40])
def test_sizes_that_lie(world: World, forge: RawForge, size: int) -> None:
    files_ = [forge.file("a", b"good"), forge.file("b", b"evil", size=size)]
    forge.publish(forge.commit(forge.tree(*files_)))
    # The disk has no room for the largest, which is looked at before anything is fetched.
    world.refused("pull", codes=(7, 8) if size == 1 << 40 else (7,))


@pytest.mark.parametrize("lengths", [(4, 1), (1, 4), (4, 5), (9, 9)])
def test_lengths_of_chunks_that_lie(
    world: World, forge: RawForge, lengths: tuple[int, int]
) -> None:
    pieces = tuple(
        Chunk(forge.chunk(body), n) for body, n in zip((b"good", b"evil"), lengths, strict=True)
    )
    content = forge.add(Kind.CHUNKS, model.encode(Chunks(pieces)))
    forge.publish(forge.commit(forge.tree(forge.file("a", content=content, size=sum(lengths)))))
    said = world.ben.run("pull")
    assert said.code == 7 or files(world.ben.project)["a"] == (FILE, b"goodevil")


def test_objects_that_unfold_past_their_length(world: World, forge: RawForge) -> None:
    bomb = bytes(cramjam.zstd.compress(bytes(1 << 26), level=19))
    for kind in Kind:
        for claimed in (4, kind.limit, kind.limit + 1):
            object_id = forge.repo.vault.object_id(kind, b"evil")
            packed = struct.pack(">BII", codec.ZSTD, claimed, len(bomb)) + bomb
            forge.add(
                kind, b"evil", stored=forge.repo.vault.close(packed, f"{kind.value}\0{object_id}")
            )
            forge.publish(forge.commit(forge.tree()))
            world.refused("pull")
            forge.objects.clear()


def test_commits_that_no_clock_made(world: World, forge: RawForge) -> None:
    for time in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        forge.publish(forge.commit(forge.tree(forge.file("a")), time=time))
        world.ben("pull", "--accept-rewind")
        assert "Eve" in world.ben("log").out
        assert time in {each["time"] for each in world.ben("log", "--json").json}
    for time in ("2026-01-02T03:04:05", "2026-01-02T03:04:05+05:00", "soon"):
        forge.publish(forge.commit(forge.tree(), time=time))
        world.refused("pull", "--accept-rewind")


# --- who is no member any more --------------------------------------------------------------


def test_a_root_by_somebody_who_was_removed(world: World) -> None:
    """Eve has written to the bucket ever since, and still has the key of the first epoch."""
    ana, eve = age.generate(), age.generate()
    first, _ = vault.create([ana.public, eve.public])
    eves = vault.unlock(first, [eve])
    header, _ = vault.begin_epoch(first, vault.unlock(first, [ana]), ALL, [ana.public])
    anas = vault.unlock(header, [ana])
    for holder in (anas, eves):
        data = roots.encode(header, roots.successor(None), holder)
        clear, body = roots.read_header(data, world.url)
        assert clear == header
        if holder is anas:
            assert roots.read_body(clear, body, anas, world.url).generation == 1
        else:
            with pytest.raises(errors.CorruptRoot, match="retired"):
                roots.read_body(clear, body, anas, world.url)


# --- what is shown --------------------------------------------------------------------------


def test_nothing_from_the_bucket_steers_the_terminal(world: World, forge: RawForge) -> None:
    evil = "x\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e"
    tree = forge.tree(forge.file(f"{evil}.txt"))
    head = forge.commit(tree, message=evil, author=evil, git=evil)
    forge.publish(head, refs={evil: head, "../x": head, "": head})
    commands: Iterable[Sequence[str]] = [
        *(["pull"], ["log"], ["log", "--oneline"], ["show"], ["ls"], ["status"], ["status", "-s"]),
        *(
            ["rm", "--cached", f"{evil}.txt"],
            ["status"],
            ["status", "-s"],
            ["unstage", f"{evil}.txt"],
        ),
        *(["cat", f"main:{evil}"], ["ls", "main", evil], ["checkout", evil], ["log", evil]),
        *(["show", "--json"], ["log", "--json"], ["ls", "--json"], ["status", "--json"]),
    ]
    for command in commands:
        said = world.ben.run(*command)
        shown = said.raw.decode() + said.err
        for bad in "\x1b\x07\r\x9b\u202e":
            assert bad not in shown, command


# --- much of it -----------------------------------------------------------------------------


def test_directories_without_end(world: World, forge: RawForge) -> None:
    tree = forge.tree(forge.file("a"))
    for _ in range(2000):
        tree = forge.tree({"name": "d", "mode": DIRECTORY, "content": tree})
    forge.publish(forge.commit(tree))
    world.ben("fetch")
    path = "d/" * 2000 + "a"
    assert world.ben("ls", "origin/main").out == path + "\n"
    assert world.ben("show", "origin/main", "--json").json["changes"][-1]["path"] == path
    assert world.ben("cat", f"origin/main:{path}").raw == b"evil"
