"""The files that most likely hold secrets: told by name, and by content."""

from __future__ import annotations

import pytest

from dorky.paths import holds_secret, is_public, looks_secret


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.local", "prod.env", ".envrc", ".dev.vars", ".dev.vars.production"),
        *(".pgpass", ".netrc", "_netrc", ".npmrc", ".my.cnf", ".htpasswd", ".git-credentials"),
        *("terraform.tfstate", "terraform.tfstate.backup", "a.tfvars", "a.auto.tfvars.json"),
        *(
            "id_rsa",
            "id_ed25519",
            "id_ecdsa_sk",
            "id_rsa_work",
            "a.pem",
            "A.PEM",
            "a.p12",
            "a.kdbx",
        ),
        *("credentials.json", "credentials", "service-account-prod.json", "client_secret_1.json"),
        *("acme-firebase-adminsdk-x1.json", "secrets.yaml", "secrets.toml", "krb5.keytab"),
        *("master.key", "kubeconfig", "prod.kubeconfig", ".s3cfg", ".dockercfg", "wp-config.php"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *("env", "env.py", "secrets.py", "secrets.ts", "secrets.go", "id_rsa.pub", "id_map.py"),
        *(".env.example", ".env.sample", "example.env.template", ".dev.vars.example", "a.pem.md"),
        *("package.json", "auth.json", "tokens.css", "keys.js", "credentials.py", "id_rsa_test.go"),
        *(
            "service-account.ts",
            "password.html",
            "Makefile",
            ".npmignore",
            "a.crt",
            "key",
            "keymap",
        ),
        *("credentials.yml.enc", "secrets.sops", ".env.gpg", ".env.d.ts", "README.md", "tfstate"),
    ],
)
def test_other_names(name: str) -> None:
    assert not looks_secret(name)


def test_names_that_mislead() -> None:
    chain = b"# root\n-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
    key = b"-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\n"
    assert is_public("ca.pem", chain)
    assert is_public("a.key", b"-----BEGIN PUBLIC KEY-----\nMII\n-----END PUBLIC KEY-----\n")
    for data in (key, chain + key, b"", b"\x30\x82", b"-----BEGIN EC PARAMETERS-----\n" + key):
        assert not is_public("ca.pem", data)
    assert is_public(".npmrc", b"save-exact=true\n")
    assert not is_public(".npmrc", b"//r/:_authToken=x\n")
    assert not is_public(".env", chain)


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----\n",
        "# note\nAGE-SECRET-KEY-1ABC\n",
        "export A=1\nB=2\n",
        "# c\n\nAWS_KEY=x\n",
        "[db]\nhost = x\npassword = hunter2\n",
        'x: 1\n  api-key: "abc"\n',
        "spring.datasource.password=abc\n",
        '{"client_secret": "x"}'.replace("{", "{\n"),
    ],
)
def test_contents_of_secrets(text: str) -> None:
    assert holds_secret(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\nb\n",
        "# password: ask Ana\n",
        "x,y\n1,2\n",
        "The token is in the vault.\n",
        "a = 1\n",
    ],
)
def test_other_contents(text: str) -> None:
    assert not holds_secret(text.encode())
