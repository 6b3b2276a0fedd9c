"""Records: their canonical bytes, and what no reader accepts.

Where a vector changes, the format does, and docs/internals/format.md must.
"""

from __future__ import annotations

import contextlib
import itertools
import stat
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dorky import errors, files
from dorky.format import model, seal
from dorky.format.model import (
    Chunk,
    Chunks,
    Commit,
    Entry,
    Epoch,
    Group,
    Header,
    Inline,
    Kind,
    Locked,
    Malformed,
    Member,
    Pack,
    Request,
    Root,
    Roster,
    Tree,
)

ONE, TWO, THREE, FOUR = ("1" * 64, "2" * 64, "3" * 64, "4" * 64)
REPOSITORY = "00112233445566778899aabbccddeeff"
OPS = "0123456789abcdef"

TREE = Tree(
    (
        Entry(".env", 0o100600, ONE, 3, TWO),
        Entry("a link", 0o120000, THREE, 4, FOUR),
        Entry("data", 0o040000, "5" * 64),
        Entry('naïve "☃".sh', 0o100755, "6" * 64, 0, "7" * 64, {"b": "2", "a": "1"}),
    )
)
CHUNKS = Chunks((Chunk(ONE, 4194304), Chunk(TWO, 1)))
COMMIT = Commit(
    {"all": ONE},
    (TWO, THREE),
    "Ana <ana@example.test>",
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    "two lines\n\ttabbed \x01",
    "ab" * 20,
    {"z": "1", "y": "2"},
)
HEADER = Header(2, REPOSITORY, (Epoch("all", 1, ONE, b"wrapped"),))
LATER = Header(
    2,
    REPOSITORY,
    (
        Epoch("all", 1, ONE),
        Epoch(OPS, 1, TWO, b"theirs"),
        Epoch("all", 2, THREE, b"wrapped", b"before", b"proof"),
    ),
    (
        Locked("age1example", "passphrase", b"scrypt"),
        Locked("age1other", "awskms", b"blob", "arn:aws:kms:eu-west-1:111122223333:key/acme"),
    ),
    "age1mailbox",
)
ROSTER = Roster(
    (Member("ana", ("age1ana", "ssh-ed25519 AAAA"), (OPS,)), Member("ci@acme", ("age1ci",))),
    (Group(OPS, "ops", ("env/prod/**",)),),
)
ROOT = Root(
    7,
    "ab" * 16,
    ("cd" * 16,),
    {"heads/main": ONE, "heads/dev": TWO},
    (Pack(TWO, 100, 40, 3),),
    (Inline(Kind.CHUNK, THREE, b"\0\1\2"),),
)

VECTORS: dict[str, tuple[Any, str]] = {
    "tree": (
        TREE,
        f'{{"entries":[{{"name":".env","mode":33152,"content":"{ONE}","size":3,"sha256":"{TWO}"}},'
        f'{{"name":"a link","mode":40960,"content":"{THREE}","size":4,"sha256":"{FOUR}"}},'
        f'{{"name":"data","mode":16384,"content":"{"5" * 64}"}},'
        f'{{"name":"naïve \\"☃\\".sh","mode":33261,"content":"{"6" * 64}",'
        f'"sha256":"{"7" * 64}","meta":{{"a":"1","b":"2"}}}}]}}',
    ),
    "empty tree": (Tree(()), '{"entries":[]}'),
    "chunks": (CHUNKS, f'{{"chunks":[["{ONE}",4194304],["{TWO}",1]]}}'),
    "commit": (
        COMMIT,
        f'{{"trees":{{"all":"{ONE}"}},"parents":["{TWO}","{THREE}"],'
        '"author":"Ana <ana@example.test>","time":"2026-01-02T03:04:05Z",'
        '"message":"two lines\\n\\ttabbed \\u0001",'
        f'"git":"{"ab" * 20}","meta":{{"y":"2","z":"1"}}}}',
    ),
    "first commit": (
        Commit({"all": ONE}, (), "", datetime(1970, 1, 1, tzinfo=timezone.utc), "m"),
        f'{{"trees":{{"all":"{ONE}"}},"parents":[],"author":"",'
        '"time":"1970-01-01T00:00:00Z","message":"m"}',
    ),
    "commit of two groups": (
        Commit({"all": ONE, OPS: TWO}, (), "", datetime(1970, 1, 1, tzinfo=timezone.utc), "m"),
        f'{{"trees":{{"{OPS}":"{TWO}","all":"{ONE}"}},"parents":[],"author":"",'
        '"time":"1970-01-01T00:00:00Z","message":"m"}',
    ),
    "header": (
        HEADER,
        f'{{"format":2,"repository":"{REPOSITORY}","epochs":[{{"group":"all","epoch":1,'
        f'"commitment":"{ONE}","wrapped":"d3JhcHBlZA=="}}]}}',
    ),
    "later header": (
        LATER,
        f'{{"format":2,"repository":"{REPOSITORY}","epochs":['
        f'{{"group":"all","epoch":1,"commitment":"{ONE}"}},'
        f'{{"group":"{OPS}","epoch":1,"commitment":"{TWO}","wrapped":"dGhlaXJz"}},'
        f'{{"group":"all","epoch":2,"commitment":"{THREE}","wrapped":"d3JhcHBlZA==",'
        '"previous":"YmVmb3Jl","proof":"cHJvb2Y="}],'
        '"locked":[{"recipient":"age1example","kind":"passphrase","data":"c2NyeXB0"},'
        '{"recipient":"age1other","kind":"awskms","data":"YmxvYg==",'
        '"key":"arn:aws:kms:eu-west-1:111122223333:key/acme"}],'
        '"mailbox":"age1mailbox"}',
    ),
    "plain header": (
        Header(2, REPOSITORY, ()),
        f'{{"format":2,"repository":"{REPOSITORY}","epochs":[]}}',
    ),
    "root": (
        ROOT,
        f'{{"generation":7,"txid":"{"ab" * 16}","recent":["{"cd" * 16}"],'
        f'"refs":{{"heads/dev":"{TWO}","heads/main":"{ONE}"}},"packs":[["{TWO}",100,40,3]],'
        f'"inline":[["chunk","{THREE}","AAEC"]]}}',
    ),
    "first root": (Root(1, "ab" * 16), f'{{"generation":1,"txid":"{"ab" * 16}"}}'),
    "root of a team": (
        Root(1, "ab" * 16, roster=ROSTER, mailbox="AGE-SECRET-KEY-1EXAMPLE"),
        f'{{"generation":1,"txid":"{"ab" * 16}","roster":{{"members":['
        f'{{"name":"ana","recipients":["age1ana","ssh-ed25519 AAAA"],"groups":["{OPS}"]}},'
        '{"name":"ci@acme","recipients":["age1ci"]}],'
        f'"groups":[{{"id":"{OPS}","name":"ops","patterns":["env/prod/**"]}}]}},'
        '"mailbox":"AGE-SECRET-KEY-1EXAMPLE"}',
    ),
    "roster": (
        ROSTER,
        '{"members":['
        f'{{"name":"ana","recipients":["age1ana","ssh-ed25519 AAAA"],"groups":["{OPS}"]}},'
        '{"name":"ci@acme","recipients":["age1ci"]}],'
        f'"groups":[{{"id":"{OPS}","name":"ops","patterns":["env/prod/**"]}}]}}',
    ),
    "empty roster": (Roster(), "{}"),
    "request": (
        Request("ben", "age1ben", "ssh-ed25519 AAAA"),
        '{"name":"ben","recipient":"age1ben","signer":"ssh-ed25519 AAAA","signature":""}',
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_canonical_bytes(name: str) -> None:
    record, expected = VECTORS[name]
    assert model.encode(record) == expected.encode()
    assert model.decode(type(record), expected.encode()) == record


@pytest.mark.parametrize(
    ("kind", "plain", "sealed"),
    [
        (
            Kind.TREE,
            "99e8b9363b8d2a89c4ea8fcf64e584efeb976975d2bb78cf1806eba8247c7524",
            "44c4cfdcdd2d0a58041c561462e83ab180c554a1341c524567b8f5be99c80d1a",
        ),
        (
            Kind.CHUNKS,
            "fbec7deb5f405b04d73679b7455e9d1ead52a4045d51611e6db64d276c61841d",
            "4f728d37139c8d180729c120e62a7d276f91626b631ccb5240ce3d029331d3fa",
        ),
        (
            Kind.COMMIT,
            "79b1743dd0d6b0d397d656f0ccef90f4928ccc50e72201b521f44697511fe8f7",
            "b8eb26642b84a8e1b82bca529424fd7cae2b1087ff8affd64bd0698c25d06490",
        ),
    ],
)
def test_ids(kind: Kind, plain: str, sealed: str) -> None:
    body = model.encode(VECTORS[kind.value][0])
    assert seal.object_id(kind.value, body, None) == plain
    assert seal.object_id(kind.value, body, seal.EpochKey(bytes(range(32))).id_key) == sealed


def test_the_order_in_which_a_mapping_was_filled_does_not_show() -> None:
    meta = {"ä": "3", "z": "2", "a": "1", "\U0001f600": "5", "\uffff": "4"}
    bodies = {
        model.encode(Tree((Entry("f", 0o100644, ONE, meta=dict(items)),)))
        for items in itertools.permutations(meta.items())
    }
    (body,) = bodies
    # In the order of code points, which is that of the keys' UTF-8.
    assert '{"a":"1","z":"2","ä":"3","\uffff":"4","\U0001f600":"5"}'.encode() in body


def test_only_what_json_demands_is_escaped() -> None:
    text = "".join(map(chr, range(32))) + '"\\/\x7f\u2028é😀'
    body = model.encode(msgspec.structs.replace(COMMIT, message=text)).decode()
    named = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r"}
    control = "".join(named.get(code, f"\\u{code:04x}") for code in range(32))
    assert f'"message":"{control}\\"\\\\/\x7f\u2028é😀"' in body


# --- round trips ----------------------------------------------------------------------------

ids = st.binary(min_size=32, max_size=32).map(bytes.hex)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
metas = st.dictionaries(texts, texts, max_size=3)
names = texts.filter(lambda name: not files.unsafe(name))
modes = st.one_of(
    st.integers(0, 0o777).map(lambda mode: stat.S_IFREG | mode),
    st.sampled_from([stat.S_IFLNK, stat.S_IFDIR]),
)
entries = st.builds(Entry, names, modes, ids, st.integers(0, (1 << 63) - 1), ids, metas)
trees = st.lists(entries, unique_by=lambda entry: entry.name, max_size=6).map(
    lambda found: Tree(tuple(sorted(found, key=lambda entry: entry.name.encode())))
)
times = st.datetimes(timezones=st.just(timezone.utc)).map(lambda at: at.replace(microsecond=0))
commits = st.builds(
    Commit,
    st.fixed_dictionaries({"all": ids}, optional={OPS: ids, "f" * 16: ids}),
    st.lists(ids, max_size=2).map(tuple),
    texts,
    times,
    texts,
    texts,
    metas,
)


@given(trees)
def test_trees_survive(tree: Tree) -> None:
    body = model.encode(tree)
    assert model.decode_tree(body, ONE) == tree
    assert model.encode(model.decode_tree(body, ONE)) == body


@given(commits)
def test_commits_survive(commit: Commit) -> None:
    body = model.encode(commit)
    assert model.decode_commit(body, ONE) == commit
    assert model.encode(model.decode_commit(body, ONE)) == body


@given(st.lists(st.builds(Chunk, ids, st.integers(1, Kind.CHUNK.limit)), max_size=6).map(tuple))
def test_chunk_lists_survive(pieces: tuple[Chunk, ...]) -> None:
    assert model.decode_chunks(model.encode(Chunks(pieces)), ONE) == Chunks(pieces)


# --- trees that no reader accepts -----------------------------------------------------------


def tree_of(*entries: Any) -> bytes:
    default = {"mode": 0o100644, "content": ONE}
    return msgspec.json.encode({"entries": [{**default, **entry} for entry in entries]})


UNSAFE = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/etc",
    "a/",
    "a\0b",
    "\0",
    ".git",
    ".GIT",
    ".gIt",
    ".git.",
    ".git ",
    ".git. . ",
    ".git::$INDEX_ALLOCATION",
    ".git:x",
    ".git .:x",
    "git~1",
    "GIT~1",
    ".g\u200cit",
    "\u200e.git",
    ".git\ufeff",
    ".gi\u202et",
    ".g\u206fit",
    ".g\u00adit",
    ".git\ufe0f",
    ".g\U000e0101it",
    "\uff0e\uff47\uff49\uff54",
    ".dorky",
    ".Dorky",
    ".dor\u212ay",
    ".dorky.",
    ".dorky:x",
    "dorky~1",
    ".d\u200borky",
    "git~2",
    "DORKYR~1",
    ".dorkyrc",
    ".DorkyRC. ",
    ".dorkyrc:x",
    ".dorky\u200brc",
]


@pytest.mark.parametrize("name", [name for name in UNSAFE if not files.malformed(name)], ids=ascii)
def test_names_that_must_not_reach_a_disk(name: str) -> None:
    left_out: set[str] = set()
    names = sorted([name, "a", "z"], key=str.encode)
    tree = model.decode_tree(tree_of(*({"name": each} for each in names)), ONE, left_out)
    assert [entry.name for entry in tree.entries] == ["a", "z"]
    assert left_out == {name}


@pytest.mark.parametrize("name", UNSAFE[:9], ids=ascii)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(errors.UnsafePath) as caught:
        model.decode_tree(tree_of({"name": name}), ONE)
    # The message is shown on terminals.
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    "name",
    [
        *(
            ".gitignore",
            ".gitattributes",
            "git",
            "_git",
            ".git2",
            ".dorkyignore",
        ),
        *(
            "...",
            "..x",
            "x..",
            " ",
            "a b",
            "a\nb",
            "a\\b",
            "~",
            "-rf",
            "CON",
            "a:b",
            "é",
            "e\u0301",
        ),
        *("\u200d", "👩\u200d🚀", "नमस्ते\u200c", "x" * 255),
    ],
    ids=ascii,
)
def test_names_that_are_fine(name: str) -> None:
    assert model.decode_tree(tree_of({"name": name}), ONE).entries[0].name == name


@pytest.mark.parametrize(
    "names",
    [("b", "a"), ("a", "a"), ("a", "B"), ("é", "z"), ("\U0001f600", "\uffff")],
    ids=ascii,
)
def test_names_are_unique_and_in_the_order_of_their_bytes(names: tuple[str, ...]) -> None:
    with pytest.raises(errors.CorruptObject, match="out of order"):
        model.decode_tree(tree_of(*({"name": name} for name in names)), ONE)


@pytest.mark.parametrize(
    "mode",
    [
        *(0, 0o644, -1, -0o100644, 1 << 32, 1 << 70),
        *(0o104755, 0o102755, 0o101777, 0o041777),  # setuid, setgid, sticky
        *(0o010644, 0o020644, 0o060644, 0o140644, 0o160644, 0o170644),  # pipe, devices, socket, …
    ],
)
def test_modes_are_a_type_and_permission_bits(mode: int) -> None:
    with pytest.raises(errors.CorruptObject):
        model.decode_tree(tree_of({"name": "f", "mode": mode}), ONE)


def test_numbers_of_5000_digits_are_not_read() -> None:
    body = tree_of({"name": "f", "mode": 1}).replace(b'"mode":1', b'"mode":' + b"9" * 5000)
    with pytest.raises(errors.CorruptObject):
        model.decode_tree(body, ONE)


@pytest.mark.parametrize("size", [-1, 1 << 63, 10**30, 1.5, True, "3", None])
def test_sizes_are_numbers_that_a_disk_knows(size: object) -> None:
    with pytest.raises(errors.CorruptObject):
        model.decode_tree(tree_of({"name": "f", "size": size}), ONE)


NOT_IDS = ["", "1" * 63, "1" * 65, "1" * 64 + "\n", "A" * 64, "g" * 64, "١" * 64, 1, None, [ONE]]


@pytest.mark.parametrize("bad", NOT_IDS, ids=ascii)
def test_ids_are_64_hex_digits_wherever_they_stand(bad: object) -> None:
    commit = msgspec.json.decode(model.encode(COMMIT))
    root = msgspec.json.decode(model.encode(ROOT))
    header = msgspec.json.decode(model.encode(HEADER))
    header["epochs"][0]["commitment"] = bad
    broken: list[tuple[type[Any], object]] = [
        (Tree, {"entries": [{"name": "f", "mode": 0o100644, "content": bad}]}),
        (Chunks, {"chunks": [[bad, 1]]}),
        (Commit, {**commit, "trees": {"all": bad}}),
        (Commit, {**commit, "parents": [bad]}),
        (Root, {**root, "refs": {"heads/main": bad}}),
        (Root, {**root, "packs": [[bad, 1, 1, 1]]}),
        (Root, {**root, "inline": [["chunk", bad, ""]]}),
        (Root, {**root, "condemned": [bad]}),
        (Header, header),
    ]
    if bad != "":  # a directory has none
        sha256 = {"name": "f", "mode": 0o100644, "content": ONE, "sha256": bad}
        broken.append((Tree, {"entries": [sha256]}))
    for kind, record in broken:
        with pytest.raises(Malformed):
            model.decode(kind, msgspec.json.encode(record))


@pytest.mark.parametrize("length", [0, -1, Kind.CHUNK.limit + 1, 1 << 70, 1.0, "1", None])
def test_chunks_have_a_possible_length(length: object) -> None:
    with pytest.raises(errors.CorruptObject):
        model.decode_chunks(msgspec.json.encode({"chunks": [[ONE, length]]}), TWO)


# --- commits that no reader accepts ---------------------------------------------------------


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-02T03:04:05",
        "2026-01-02T03:04:05+05:30",
        "2026-01-02T03:04:05.5Z",
        "2026-13-02T03:04:05Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "",
        1767323045,
        None,
    ],
)
def test_times_are_in_utc_and_whole_seconds(time: object) -> None:
    commit = {**msgspec.json.decode(model.encode(COMMIT)), "time": time}
    with pytest.raises(errors.CorruptObject):
        model.decode_commit(msgspec.json.encode(commit), ONE)


@pytest.mark.parametrize("year", [1, 1969, 9999])
def test_times_far_away_are_only_odd(year: int) -> None:
    commit = msgspec.structs.replace(COMMIT, time=datetime(year, 1, 1, tzinfo=timezone.utc))
    decoded = model.decode_commit(model.encode(commit), ONE)
    assert decoded.time - commit.time == timedelta()
    assert isinstance(decoded.time.timestamp(), float)


NO_GROUPS = [
    *("", "All", "all ", "all\n", "ops", "a\0b", "é"),
    *("0" * 15, "0" * 17, "A" * 16, "g" * 16, OPS + "\n", "0" * 15 + "\0", "٠" * 16),
]


@pytest.mark.parametrize("group", NO_GROUPS, ids=ascii)
def test_groups_are_all_or_random(group: str) -> None:
    # They stand in what the seal authenticates, with a NUL at their end; and in the clear, where
    # what a group is called would tell something.
    commit = {**msgspec.json.decode(model.encode(COMMIT)), "trees": {"all": ONE, group: ONE}}
    with pytest.raises(errors.CorruptObject):
        model.decode_commit(msgspec.json.encode(commit), ONE)
    header = msgspec.json.decode(model.encode(LATER))
    header["epochs"][1]["group"] = group
    member = {"name": "ana", "recipients": [], "groups": [group]}
    known = {"id": group, "name": "ops", "patterns": []}
    broken: list[tuple[type[Any], object]] = [
        (Header, header),
        (Roster, {"members": [member]}),
        (Roster, {"groups": [known]}),
        (Root, {"generation": 1, "txid": "ab" * 16, "roster": {"groups": [known]}}),
    ]
    for kind, record in broken:
        with pytest.raises(Malformed):
            model.decode(kind, msgspec.json.encode(record))


@pytest.mark.parametrize("trees", [{}, {OPS: ONE}], ids=["none", "another"])
def test_every_commit_has_a_tree_for_all(trees: dict[str, str]) -> None:
    commit = {**msgspec.json.decode(model.encode(COMMIT)), "trees": trees}
    with pytest.raises(errors.CorruptObject, match="no tree for all"):
        model.decode_commit(msgspec.json.encode(commit), ONE)


# --- roots and headers that no reader accepts -----------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 0},
        {"generation": -1},
        {"generation": 1 << 63},
        {"generation": "7"},
        {"txid": "ab"},
        {"txid": "AB" * 16},
        {"txid": "ab" * 16 + "\n"},
        {"recent": ["x"]},
        {"recent": ["ab" * 16] * 65},
        {"refs": {"heads/main": None}},
        *({"refs": {name: ONE}} for name in ("main", "heads/", "heads//x", "heads/a b", "notes/x")),
        {"refs": {f"heads/{n}": ONE for n in range(2049)}},
        {"refs": {"tags/" + "x" * 200: ONE}},
        {"condemned": [ONE] * 4097},
        {"probed": ["x"]},
        {"probed": [ONE] * 17},
        {"time": "yesterday"},
        {"packs": [[ONE, -1, 0, 0]]},
        {"packs": [[ONE, 1, -1, 0]]},
        {"packs": [[ONE, 1, 1, -1]]},
        {"packs": [[ONE, 1 << 63, 0, 0]]},
        {"packs": [[ONE, 1, 1, 1 << 31]]},
        {"packs": [[ONE, 1]]},
        {"packs": [[ONE, 1, 1, 1, 1]]},
        {"inline": [["blob", ONE, ""]]},
        {"inline": [["chunk", ONE, "*"]]},
        {"inline": [["chunk", ONE, "AA"]]},
        {"gc_epoch": -1},
        {"condemned": ["../root"]},
        {"roster": []},
        {"roster": {"members": [{"name": "ana"}]}},
        {"roster": {"members": [{"name": "ana", "recipients": ["age1"], "admin": True}]}},
        {"roster": {"groups": [{"id": OPS, "name": "ops"}]}},
        {"mailbox": None},
        {"later": True},
    ],
    ids=str,
)
def test_roots_say_only_what_can_be(change: dict[str, object]) -> None:
    root = {**msgspec.json.decode(model.encode(ROOT)), **change}
    with pytest.raises(Malformed):
        model.decode(Root, msgspec.json.encode(root))


NO_NAMES = [
    "",
    "-ana",
    ".ana",
    "ana ",
    "two words",
    "a/b",
    "é",
    "a\n",
    "a\0",
    "a" * 65,
    "#",
    1,
    None,
]


@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
def test_members_and_groups_are_called_by_one_word(name: object) -> None:
    # Names are typed into command lines and shown on terminals.
    broken: list[tuple[type[Any], object]] = [
        (Roster, {"members": [{"name": name, "recipients": []}]}),
        (Roster, {"groups": [{"id": OPS, "name": name, "patterns": []}]}),
        (Request, {"name": name, "recipient": "age1", "signer": "ssh"}),
    ]
    for kind, record in broken:
        with pytest.raises(Malformed):
            model.decode(kind, msgspec.json.encode(record))


@pytest.mark.parametrize("name", ["a", "0", "Ana.B_c-d@acme+ci", "a" * 64])
def test_names_for_a_command_line(name: str) -> None:
    assert model.decode(Request, model.encode(Request(name, "age1", "ssh"))).name == name


def test_a_request_of_a_stranger_is_short_and_says_nothing_else() -> None:
    longest = Request("ben", "x" * 2048, "x" * 2048)
    assert model.decode(Request, model.encode(longest)) == longest
    for body in (
        model.encode(Request("ben", "x" * 2049, "ssh")),
        model.encode(Request("ben", "age1", "x" * 2049)),
        b'{"name":"ben"}',
        b'{"recipient":"age1","signer":"ssh"}',
        b'{"name":"ben","recipient":"age1"}',
        b'{"name":"ben","recipient":"age1","signer":"ssh","groups":["all"]}',
    ):
        with pytest.raises(Malformed):
            model.decode(Request, body)


@pytest.mark.parametrize("kind", ["", "scrypt", "gcpkms", None])
def test_what_is_locked_is_locked_in_a_known_way(kind: object) -> None:
    header = msgspec.json.decode(model.encode(LATER))
    header["locked"][0]["kind"] = kind
    with pytest.raises(Malformed):
        model.decode(Header, msgspec.json.encode(header))


def header_of(*named: tuple[str, int]) -> Header:
    """A header with epochs that are wrapped and chained as they must be, in the given order."""
    last = {group: place for place, (group, _) in enumerate(named)}
    return Header(
        1,
        REPOSITORY,
        tuple(
            Epoch(
                group,
                number,
                f"{place:016x}{0:048x}",
                b"wrapped" if last[group] == place else b"",
                b"before" if number > 1 else b"",
                b"proof" if number > 1 else b"",
            )
            for place, (group, number) in enumerate(named)
        ),
    )


def refused(header: Header, place: int, match: str, **change: object) -> None:
    """Neither made nor read with one of its epochs changed."""
    epochs = list(header.epochs)
    epochs[place] = msgspec.structs.replace(epochs[place], **change)
    with pytest.raises(ValueError, match=match):
        Header(2, REPOSITORY, tuple(epochs))
    body = msgspec.json.encode({"format": 1, "repository": REPOSITORY, "epochs": epochs})
    with pytest.raises(Malformed, match=match):
        model.decode(Header, body)


FF = "f" * 16
ORDERS = [
    [("all", 1)],
    [("all", 1), ("all", 2), ("all", 3)],
    [("all", 1), (OPS, 1), ("all", 2), (FF, 1), (OPS, 2), (OPS, 3)],
]


@pytest.mark.parametrize("named", ORDERS, ids=str)
def test_epochs_in_the_order_in_which_they_began(named: list[tuple[str, int]]) -> None:
    header = header_of(*named)
    assert model.decode(Header, model.encode(header)) == header
    for group in {group for group, _ in named}:
        newest = header.newest(group)
        assert newest
        assert newest.epoch == max(number for each, number in named if each == group)
        assert newest.wrapped
    assert header.newest("e" * 16) is None
    assert header.sealed


@pytest.mark.parametrize(
    "named",
    [
        [("all", 0)],
        [("all", 2)],
        [("all", 1), ("all", 1)],
        [("all", 1), ("all", 3)],
        [("all", 2), ("all", 1)],
        [(OPS, 1), ("all", 1)],
        [(OPS, 1)],
        [("all", 1), (OPS, 2)],
        [("all", 1), (OPS, 1), (OPS, 1)],
        [("all", 1), (OPS, 1), ("all", 2), (OPS, 3)],
    ],
    ids=str,
)
def test_epochs_are_counted_by_group_and_all_comes_first(named: list[tuple[str, int]]) -> None:
    with pytest.raises(ValueError, match="epoch"):
        header_of(*named)
    body = msgspec.json.encode(
        {
            "format": 1,
            "repository": REPOSITORY,
            "epochs": [
                {
                    "group": group,
                    "epoch": number,
                    "commitment": f"{place:016x}{0:048x}",
                    "wrapped": "" if (group, number + 1) in named else "AAAA",
                    "previous": "AAAA" if number > 1 else "",
                    "proof": "AAAA" if number > 1 else "",
                }
                for place, (group, number) in enumerate(named)
            ],
        }
    )
    with pytest.raises(Malformed, match="epoch"):
        model.decode(Header, body)


def test_every_epoch_but_the_first_holds_the_key_before() -> None:
    header = header_of(*ORDERS[2])
    for place, each in enumerate(header.epochs):
        previous = b"" if each.previous else b"x"
        refused(header, place, "out of order", previous=previous)
        refused(header, place, "out of order", proof=previous)


def test_no_key_is_anothers() -> None:
    header = header_of(*ORDERS[2])
    for place in range(1, len(header.epochs)):
        refused(header, place, "one key", commitment=header.epochs[0].commitment)


def test_a_groups_newest_key_is_wrapped_and_no_other() -> None:
    # Who was removed must not find an old key wrapped to them in a header of today.
    header = header_of(*ORDERS[2])
    assert [bool(each.wrapped) for each in header.epochs] == [False, False, True, True, False, True]
    for place, each in enumerate(header.epochs):
        wrapped = b"" if each.wrapped else b"x"
        refused(header, place, "wrapped", wrapped=wrapped)


def test_a_header_of_a_later_format_is_read_far_enough_to_tell() -> None:
    later = {"format": 9, "repository": REPOSITORY, "epochs": [], "new": {"deep": [1]}}
    assert model.decode(Header, msgspec.json.encode(later)).format == 9


@pytest.mark.parametrize("number", [0, -1, "1", 1.0, None])
def test_formats_count_from_one(number: object) -> None:
    body = msgspec.json.encode({"format": number, "repository": REPOSITORY, "epochs": []})
    with pytest.raises(Malformed):
        model.decode(Header, body)


# --- anything -------------------------------------------------------------------------------

DEEP = b"[" * 100_000 + b"]" * 100_000
NASTY = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"{",
    b'{"entries":[]} x',
    b'{"entries":[]}\0',
    b"\xef\xbb\xbf{}",
    b'{"entries":' + DEEP + b"}",
    b'{"chunks":' + DEEP + b"}",
    b'{"later":' + DEEP + b"}",
    b'{"entries":[{"name":"\xff","mode":33188,"content":"%s"}]}' % ONE.encode(),
    b'{"entries":[{"name":"\xed\xa0\x80","mode":33188,"content":"%s"}]}' % ONE.encode(),
    b'{"entries":[{"name":"\\ud800","mode":33188,"content":"%s"}]}' % ONE.encode(),
    b'{"entries":[{"name":"\\ud800\\u0041","mode":33188,"content":"%s"}]}' % ONE.encode(),
    model.encode(COMMIT).replace(b"ana@", b"\xc3("),
]


@pytest.mark.parametrize("body", NASTY, ids=lambda body: ascii(body[:24]))
def test_whatever_it_is_the_answer_is_a_typed_error(body: bytes) -> None:
    for kind in (Tree, Chunks, Commit, Header, Root, Request):
        with pytest.raises(Malformed):
            model.decode(kind, body)
    if body != b"{}":  # nobody on the team
        with pytest.raises(Malformed):
            model.decode(Roster, body)


def test_headers_alone_may_hold_unknown_fields_but_no_endless_ones() -> None:
    plain = b'{"format":2,"repository":"%s","epochs":[],"x":%s}'
    assert model.decode(Header, plain % (REPOSITORY.encode(), b"[[1]]"))
    with contextlib.suppress(Malformed):
        model.decode(Header, plain % (REPOSITORY.encode(), DEEP))


bodies = [model.encode(record) for record, _ in VECTORS.values()]


@st.composite
def mutilated(draw: st.DrawFn) -> bytes:
    """A valid record with some bytes replaced, removed or put in."""
    body = bytearray(draw(st.sampled_from(bodies)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        stop = draw(st.integers(start, min(len(body), start + 8)))
        body[start:stop] = draw(
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from(
                    [b"null", b"1e999", b"-0", b'"', b"\\u0000", b"{}", b"[[", b"\xff"]
                ),
            )
        )
    return bytes(body)


@given(st.one_of(mutilated(), st.binary(max_size=200)))
@example(b"")
def test_decoders_give_a_record_or_a_typed_error(body: bytes) -> None:
    decoders = (model.decode_tree, model.decode_chunks, model.decode_commit)
    for decoder in decoders:
        try:
            record = decoder(body, ONE)
        except errors.IntegrityError:
            continue
        # What was accepted can be written again, and is then itself.
        assert decoder(model.encode(record), ONE) == record
    for kind in (Header, Root, Roster, Request):
        try:
            found = model.decode(kind, body)
        except Malformed:
            continue
        assert model.decode(kind, model.encode(found)) == found
