"""What `status` takes for secrets, in a tree like those that people have."""

from __future__ import annotations

from machines import Machine

CHAIN = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
KEY = CHAIN.replace("CERTIFICATE", "PRIVATE KEY")


def test_secrets_are_named_and_source_is_not(ana: Machine) -> None:
    ana("init")
    found = {".envrc": "A=1", ".dev.vars": "A=1", "infra/x.tfstate": "{}", "tls/a.pem": KEY}
    for path, text in found.items():
        ana.write(path, text)
    for path in ("vendor/a/secrets.py", "vendor/a/auth.json", "vendor/a/.env.example", "id_map.py"):
        ana.write(path, "x")
    ana.write("tls/ca.pem", CHAIN)
    ana.write(".npmrc", "save-exact=true\n")
    with ana.repo() as repo:
        assert repo.status().secrets == tuple(sorted(found))
