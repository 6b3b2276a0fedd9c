"""Settings: which one is in force and why, and what a stranger's `.dorkyrc` may not say."""

from __future__ import annotations

import pwd
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dorky import config, errors
from dorky.cli import hints
from dorky.config import Config, Value

RC = """\
# the team's project
version = 2

[repository]
id = "00112233445566778899aabbccddeeff"  # who we are

[remotes.origin]
url = "s3://acme-vault/payments"
region = "eu-central-1"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "payments"
    root.mkdir()
    (root / ".dorkyrc").write_text(RC)
    return root


def user_file(home: Path, text: str) -> Path:
    path = home / ".dorky" / "config"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all the examples of a property."""
    return tmp_path_factory.mktemp("scratch")


# --- precedence -----------------------------------------------------------------------------

REGION = "remotes.origin.region"


def test_flags_environment_project_user_nothing(project: Path, hermetic: Path) -> None:
    user = user_file(hermetic, '[remotes.origin]\nregion = "us-east-2"\nprofile = "mine"\n')
    environment = {"HOME": str(hermetic)}

    def found(key: str = REGION, **more: Any) -> Value | None:
        return Config(project, **{"environment": environment, **more}).find(key)

    with_variable = {**environment, "AWS_REGION": "ap-south-1"}
    flags = {REGION: "sa-east-1"}
    assert found(environment=with_variable, flags=flags) == (REGION, "sa-east-1", "command line")
    source = "environment (AWS_REGION)"
    assert found(environment=with_variable) == (REGION, "ap-south-1", source)
    assert found() == (REGION, "eu-central-1", str(project / ".dorkyrc"))
    assert found("remotes.origin.profile") == ("remotes.origin.profile", "mine", str(user))
    assert found("remotes.origin.endpoint") is None
    assert Config(None, environment=environment).find(REGION) == (REGION, "us-east-2", str(user))


def test_an_empty_variable_is_none(project: Path) -> None:
    mine = Config(project, environment={"AWS_REGION": "", "DORKY_URL": "", "HOME": "/nowhere"})
    assert mine.text(REGION) == "eu-central-1"
    assert mine.url("origin") == "s3://acme-vault/payments"


@pytest.mark.parametrize(
    ("key", "variable"),
    [(key, setting.env) for key, setting in config.SETTINGS.items() if setting.env],
)
def test_every_variable_is_heeded(project: Path, key: str, variable: str) -> None:
    value = 5 if config.SETTINGS[key].type is int else "from outside"
    mine = Config(project, environment={variable: str(value), "HOME": "/nowhere"})
    key = key.replace("*", "origin")
    assert mine.find(key) == (key, value, f"environment ({variable})")


def test_the_list_tells_where_each_value_is_from(project: Path, hermetic: Path) -> None:
    user = str(user_file(hermetic, '[user]\nname = "Ana"\n'))
    rc = str(project / ".dorkyrc")
    mine = Config(
        project, environment={"HOME": str(hermetic), "DORKY_URL": "gs://b/p", "AWS_REGION": "eu"}
    )
    assert mine.items() == [
        (REGION, "eu", "environment (AWS_REGION)"),
        ("remotes.origin.url", "gs://b/p", "environment (DORKY_URL)"),
        ("repository.id", "00112233445566778899aabbccddeeff", rc),
        ("user.name", "Ana", user),
        ("version", 2, rc),
    ]


@pytest.mark.parametrize("place", ["", "relative", "/none", "/dev/null", "/" + "9" * 300])
def test_a_place_in_memory_is_a_directory(tmp_path: Path, place: str) -> None:
    usual = config.Config(None, environment={}).memory
    assert config.Config(None, environment={"XDG_RUNTIME_DIR": place}).memory == usual
    own = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert config.Config(None, environment=own).memory == tmp_path


def test_an_unknown_setting_is_named(project: Path) -> None:
    for key in (
        "",
        "remotes",
        "remotes.origin",
        "remotes.origin.url.x",
        "remote.origin.url",
        "Version",
    ):
        with pytest.raises(errors.UsageError, match="no setting"):
            Config(project).get(key)


# --- places ---------------------------------------------------------------------------------


def test_a_bucket_and_the_directorys_name_make_a_url(project: Path) -> None:
    def url(**environment: str) -> str:
        return Config(project, environment=environment).url("origin")

    assert url(DORKY_BUCKET="acme") == "s3://acme/payments"
    assert url(DORKY_BUCKET="gs://acme/") == "gs://acme/payments"
    assert url(DORKY_BUCKET="gs://acme/team") == "gs://acme/team/payments"
    assert url(DORKY_BUCKET="acme", DORKY_URL="file:///srv/vault") == "file:///srv/vault"


def test_variables_make_a_remote_where_there_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = Config(None, environment={"DORKY_BUCKET": "acme"})
    assert mine.remotes() == {"origin": f"s3://acme/{tmp_path.name}"}
    assert Config(None, environment={}).remotes() == {}
    with pytest.raises(errors.NoRemote, match="origin"):
        Config(None, environment={}).url("origin")


def test_a_relative_directory_counts_from_the_project(project: Path) -> None:
    for url, meant in {
        "../vault": str(project / "../vault"),
        "vault": str(project / "vault"),
        "/srv/vault": "/srv/vault",
        "~/vault": "~/vault",
        "file:///srv": "file:///srv",
    }.items():
        config.write(project / ".dorkyrc", "remotes.origin.url", url)
        assert Config(project).remotes() == {"origin": meant}


def test_identity_and_author(project: Path, hermetic: Path) -> None:
    home = {"HOME": str(hermetic)}
    assert Config(project, environment=home).identity_path == hermetic / ".dorky" / "identity"
    user_file(hermetic, 'identity = "~/keys/age.txt"\n')
    assert Config(project, environment=home).identity_path == hermetic / "keys" / "age.txt"
    elsewhere = {**home, "DORKY_IDENTITY_FILE": "/run/secrets/age"}
    assert Config(project, environment=elsewhere).identity_path == Path("/run/secrets/age")
    given = Config(project, environment={**home, "DORKY_IDENTITY": "AGE-SECRET-KEY-1X"})
    assert given.identity_text == "AGE-SECRET-KEY-1X"
    # A secret is no setting: it is never listed.
    assert "AGE-SECRET" not in str(given.items())
    assert Config(project, environment={"DORKY_AUTHOR": "Ana"}).text("user.name") == "Ana"


def test_nobody_in_particular(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that runs as an account of its own, without a home."""

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert not Config(project).text("user.name")
    assert not Config(project).ssh_keys
    with pytest.raises(errors.SetupError, match="no home") as caught:
        Config(project).set("user.name", "ana", scope="user")
    assert hints.hint(caught.value) == "set HOME"
    monkeypatch.setenv("HOME", "/nowhere")
    assert Config(project).login == "unknown"


def test_the_identity_of_somebody_who_is_not_here(project: Path) -> None:
    mine = Config(project, environment={"DORKY_IDENTITY_FILE": "~nobody-of-that-name/key"})
    with pytest.raises(errors.IdentityMissing, match="nobody-of-that-name"):
        _ = mine.identity_path


# --- what a driver is told ------------------------------------------------------------------


def test_aws_variables_reach_the_driver(project: Path) -> None:
    environment = {
        "HOME": "/nowhere",
        "AWS_ENDPOINT_URL": "http://one.test",
        "AWS_CA_BUNDLE": "/etc/acme.pem",
        "AWS_PROFILE": "acme",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "example",
        "AWS_SESSION_TOKEN": "token",
    }
    expected = {
        "region": "eu-central-1",
        "endpoint": "http://one.test",
        "ca_bundle": "/etc/acme.pem",
        "profile": "acme",
        "access_key_id": "AKIDEXAMPLE",
        "secret_access_key": "example",
        "session_token": "token",
    }
    assert Config(project, environment=environment).driver_options("origin") == expected
    # What is said of S3 alone is more special than what is said of all services.
    environment["AWS_ENDPOINT_URL_S3"] = "http://two.test"
    expected["endpoint"] = "http://two.test"
    assert Config(project, environment=environment).driver_options("origin") == expected
    # Half a pair of keys is none.
    del environment["AWS_SECRET_ACCESS_KEY"]
    for name in ("access_key_id", "secret_access_key", "session_token"):
        del expected[name]
    assert Config(project, environment=environment).driver_options("origin") == expected


def test_the_command_line_wins_over_aws_variables(project: Path) -> None:
    environment = {"AWS_ENDPOINT_URL_S3": "http://two.test", "AWS_REGION": "eu-north-1"}
    flags = {"remotes.origin.endpoint": "http://three.test", REGION: "eu-west-3"}
    options = Config(project, flags=flags, environment=environment).driver_options("origin")
    assert options == {"endpoint": "http://three.test", "region": "eu-west-3"}


def test_the_default_region_is_a_last_resort(project: Path) -> None:
    environment = {"AWS_DEFAULT_REGION": "us-west-1", "HOME": "/nowhere"}
    assert Config(project, environment=environment).driver_options("origin")["region"] == (
        "eu-central-1"
    )
    assert Config(project, environment=environment).driver_options("other") == {
        "region": "us-west-1"
    }


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_drivers_are_told_of_a_proxy(project: Path, name: str) -> None:
    environment = {name: "https://proxy.example.test"}
    options = Config(project, environment=environment).driver_options("origin")
    assert options["proxy"] == "https://proxy.example.test"


def test_a_service_account_is_the_users_own(project: Path, hermetic: Path) -> None:
    user_file(hermetic, '[remotes.origin]\nservice_account = "/keys/sa.json"\n')
    options = Config(project).driver_options("origin")
    assert options["service_account"] == "/keys/sa.json"


def test_a_single_writer_is_one_who_says_so(project: Path) -> None:
    assert not Config(project).single_writer("origin")
    Config(project).set("remotes.origin.single_writer", True, scope="project")
    assert Config(project).single_writer("origin")
    assert not Config(project).single_writer("other")


# --- .dorkyrc comes from a stranger ---------------------------------------------------------

HOSTILE = {
    "not TOML": "what is this",
    "half a string": 'version = "',
    "not UTF-8": b"version = 2 # \xff",
    "a NUL": "version = 2\0",
    "an unknown setting": "hooks = true",
    "a command": '[remotes.origin]\ncommand = "rm -rf ~"',
    "a credential": '[remotes.origin]\nsecret_access_key = "x"',
    "an identity": 'identity = "/etc/passwd"',
    "an author": '[user]\nname = "Eve"',
    "a service account": '[remotes.origin]\nservice_account = "/etc/x"',
    "a string for a number": 'version = "1"',
    "true for a number": "version = true",
    "a float for a number": "version = 2.0",
    "version 0": "version = 0",
    "version -1": "version = -1",
    "a number for a string": "[remotes.origin]\nurl = 7",
    "a list for a string": "[remotes.origin]\nurl = ['s3://a/b']",
    "a date for a string": "[remotes.origin]\nregion = 2026-01-01",
    "a string for true": '[remotes.origin]\nsingle_writer = "true"',
    "a value for a table": "remotes = 3",
    "a list for a table": "[[remotes]]\nurl = 's3://a/b'",
    "a table too deep": "[remotes.origin.url]\nx = 1",
    "a remote without a name": '[remotes.""]\nurl = "s3://a/b"',
    "a remote with a slash": '[remotes."../x"]\nurl = "s3://a/b"',
    "a remote with a NUL": '[remotes."x\\u0000"]\nurl = "s3://a/b"',
    "a remote that is a pattern": '[remotes."*"]\nurl = "s3://a/b"',
    "a remote with a dot": '[remotes."a.b"]\nurl = "s3://a/b"',
    "the name of our backups": '[remotes.backup]\nurl = "s3://a/b"',
    "a number of 5000 digits": "version = " + "1" * 5000,
    "endless lists": "version = " + "[" * 50_000 + "]" * 50_000,
    "endless tables": "version = " + "{a=" * 5000 + "1" + "}" * 5000,
    "endless keys": "[" + ".".join(["a"] * 5000) + "]\nx = 1",
    "far too much": "# " + "x" * (1 << 20),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_refused(project: Path, text: str | bytes) -> None:
    path = project / ".dorkyrc"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(errors.BadConfig, match=r"\.dorkyrc is malformed") as caught:
        Config(project).items()
    assert caught.value.exit_code == 3


def test_a_newer_layout_is_told_from_a_malformed_one(project: Path) -> None:
    (project / ".dorkyrc").write_text("version = 3\n[something.new]\nx = 1\n")
    with pytest.raises(errors.ConfigTooNew, match=r"format 3, this one reads up to 2"):
        Config(project).items()


def test_something_endless_is_not_read_to_its_end(project: Path, hermetic: Path) -> None:
    user_file(hermetic, "").unlink()
    (hermetic / ".dorky/config").symlink_to("/dev/zero")
    with pytest.raises(errors.BadConfig, match="not a regular file"):
        Config(project).items()


def test_the_users_own_file_may_say_more_but_not_everything(project: Path, hermetic: Path) -> None:
    user_file(hermetic, 'identity = "/keys/age"\n[user]\nname = "Ana"\n')
    assert Config(project).text("user.name") == "Ana"
    path = user_file(hermetic, "hooks = true\n")
    with pytest.raises(errors.BadConfig, match=str(path)):
        Config(project).items()


def test_no_file_is_an_empty_file(tmp_path: Path) -> None:
    assert config.read(tmp_path / "none", "project") == {}
    with pytest.raises(errors.DiskError, match="directory"):
        config.read(tmp_path, "project")


toml = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=60),
    st.lists(
        st.sampled_from(
            [
                *("[remotes.origin]", "[remotes]", "[[remotes]]", "[repository]", "version = 2"),
                *("version", "=", "1", "true", '"x"', "''", '"""', "{", "}", "[", "]", ".", ","),
                *("url = 's3://a/b'", "id = 'x'", "\n", "#", "\\u0000", "1979-05-27", "inf", "0x1"),
            ]
        ),
        max_size=12,
    ).map(" ".join),
    st.lists(st.sampled_from(RC.splitlines()), max_size=12).map("\n".join),
)


@given(text=toml)
@example(text=RC)
def test_whatever_it_is_the_answer_is_settings_or_a_typed_error(
    scratch: Path, text: str | bytes
) -> None:
    path = scratch / ".dorkyrc"
    path.write_bytes(
        text if isinstance(text, bytes) else text.encode("utf-8", errors="surrogatepass")
    )
    try:
        values = config.read(path, "project")
    except (errors.BadConfig, errors.ConfigTooNew, errors.FormatTooOld):
        return
    for key, value in values.items():
        assert type(value) is config.describe(key).type


# --- values as typed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("remotes.origin.single_writer", "true", True),
        ("remotes.origin.single_writer", "No", False),
        ("portable_names", "0", False),
        ("version", "1", 1),
        (REGION, "", ""),
        (REGION, "true", "true"),
        ("user.name", "Zoë 👩\u200d🚀"[:3], "Zoë"),
    ],
)
def test_values_as_typed(key: str, text: str, value: object) -> None:
    assert config.parse(key, text) == value


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("portable_names", "maybe"),
        ("portable_names", ""),
        ("version", "one"),
        ("version", "²"),
        ("version", "1" * 5000),
        (REGION, "a\nb"),
        (REGION, "\x1b[2J"),
        ("user.name", "\udcff"),
        ("remotes.a b.url", "s3://a/b"),
        ("nothing", "x"),
    ],
    ids=ascii,
)
def test_values_mistyped(key: str, text: str) -> None:
    with pytest.raises(errors.UsageError):
        config.parse(key, text)


# --- writing --------------------------------------------------------------------------------


def test_comments_and_order_are_kept(project: Path) -> None:
    mine = Config(project)
    mine.set(REGION, "eu-north-1", scope="project")
    mine.set("remotes.origin.profile", "acme", scope="project")
    mine.set("remotes.mirror.url", "gs://acme/copy", scope="project")
    mine.set("portable_names", False, scope="project")
    text = (project / ".dorkyrc").read_text()
    assert text == (
        RC.replace("version = 2\n", "version = 2\nportable_names = false\n").replace(
            'region = "eu-central-1"\n', 'region = "eu-north-1"\nprofile = "acme"\n'
        )
        + '\n[remotes.mirror]\nurl = "gs://acme/copy"\n'
    )
    for key in ("remotes.origin.profile", "remotes.mirror.url", "portable_names"):
        assert mine.unset(key, scope="project")
        assert mine.get(key) is None
    mine.set(REGION, "eu-central-1", scope="project")
    assert (project / ".dorkyrc").read_text().rstrip() == RC.rstrip()
    assert not mine.unset("remotes.mirror.url", scope="project")
    assert not mine.unset("remotes.origin.profile", scope="project")


KEYS = [
    *("version", "repository.id", "repository.fingerprint", "portable_names", "identity"),
    *("remotes.origin.url", REGION, "remotes.mirror.url", "remotes.mirror.single_writer"),
    *("user.name", "remotes.mirror.service_account"),
]
VALUES = {
    int: st.just(1),
    bool: st.booleans(),
    str: st.text(st.sampled_from("abcXYZ_-09"), max_size=9),
}


@settings(max_examples=30)
@given(data=st.data())
def test_what_is_set_is_read(scratch: Path, data: st.DataObject) -> None:
    path = scratch / "config"
    path.unlink(missing_ok=True)
    expected: dict[str, object] = {}
    for key in data.draw(st.lists(st.sampled_from(KEYS), max_size=8)):
        value = data.draw(st.one_of(st.none(), VALUES[config.describe(key).type]))
        assert config.write(path, key, value) == (value is not None or key in expected)
        expected[key] = value
        expected = {each: known for each, known in expected.items() if known is not None}
        assert config.read(path, "user") == expected


@pytest.mark.parametrize(
    "text",
    [
        'remotes = {origin = {url = "a"}} # inline\n',
        'remotes.origin.url = "a" # dotted\n',
        '[remotes]\norigin = {url = "a"}\n',
        '["remotes"."origin"]\n"url" = "a"\n',
        '[remotes.origin]\r\nurl = "a" # windows\r\n',
    ],
)
def test_whatever_the_style_of_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".dorkyrc"
    path.write_bytes(text.encode())
    config.write(path, REGION, "r")
    assert config.read(path, "project") == {"remotes.origin.url": "a", REGION: "r"}
    for comment in ("# inline", "# dotted", "# windows"):
        assert (comment in text) == (comment in path.read_text())
    config.write(path, REGION, None)
    assert config.read(path, "project") == {"remotes.origin.url": "a"}


def test_what_is_yours_does_not_go_into_the_projects_file(project: Path) -> None:
    mine = Config(project)
    for key in ("identity", "user.name", "remotes.origin.service_account"):
        with pytest.raises(errors.UsageError, match="yours") as caught:
            mine.set(key, "x", scope="project")
        assert "--user" in hints.hint(caught.value)
    assert (project / ".dorkyrc").read_text() == RC


def test_a_new_file_for_the_user(project: Path, hermetic: Path) -> None:
    mine = Config(project)
    mine.set("user.name", "Ana", scope="user")
    assert mine.text("user.name") == "Ana"
    path = hermetic / ".dorky" / "config"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o600)
    mine.set("user.name", "Ben", scope="user")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_outside_a_project_there_is_no_file_for_it(tmp_path: Path) -> None:
    with pytest.raises(errors.NotARepository):
        Config(None).set(REGION, "x", scope="project")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("remotes = 3\n", errors.BadConfig),
        ("remotes = [1]\n", errors.BadConfig),
        ("[[remotes]]\n", errors.BadConfig),
        ("[remotes]\norigin = 'x'\n", errors.BadConfig),
        ("not toml", errors.BadConfig),
        ("version = " + "[" * 50_000, errors.BadConfig),
    ],
    ids=lambda text: str(text)[:16],
)
def test_a_malformed_file_is_not_written_over(
    project: Path, text: str, error: type[errors.DorkyError]
) -> None:
    path = project / ".dorkyrc"
    path.write_text(text)
    for value in ("x", None):
        with pytest.raises(error):
            config.write(path, "remotes.origin.url", value)
    assert path.read_text() == text


def test_a_value_that_is_no_text_is_not_written(project: Path) -> None:
    with pytest.raises(errors.UsageError, match="UTF-8"):
        Config(project).set("remotes.origin.url", "/srv/\udcff", scope="project")
    assert (project / ".dorkyrc").read_text() == RC


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.DiskError, match="file"):
        config.write(tmp_path / "file" / ".dorkyrc", "version", 1)
