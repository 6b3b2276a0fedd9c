"""Which variables of a `.env` file `run` refuses, name by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from machines import Machine

from dorky import process, steering

# plugins/sudoers/env.c, initial_badenv_table; a * there is one here.
SUDO = """
    IFS CDPATH LOCALDOMAIN RES_OPTIONS HOSTALIASES NLSPATH PATH_LOCALE LD_* _RLD* SHLIB_PATH LDR_*
    LIBPATH AUTHSTATE DYLD_* KRB5_CONFIG* KRB5_KTNAME VAR_ACE USR_ACE DLC_ACE TERMINFO TERMINFO_DIRS
    TERMPATH TERMCAP BASH_ENV PS4 GLOBIGNORE BASHOPTS SHELLOPTS JAVA_TOOL_OPTIONS PERLIO_DEBUG
    PERLLIB PERL5LIB PERL5OPT PERL5DB FPATH NULLCMD READNULLCMD ZDOTDIR TMPPREFIX PYTHONHOME
    PYTHONPATH PYTHONINSPECT PYTHONUSERBASE RUBYLIB RUBYOPT
"""
OTHERS = """
    MAKEFILES MAKEFLAGS GNUMAKEFLAGS GOFLAGS GOPROXY GEM_PATH GEM_HOME BUNDLE_GEMFILE PYTEST_ADDOPTS
    PYTEST_PLUGINS GUNICORN_CMD_ARGS KUBECONFIG AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE PSQLRC
    npm_config_script_shell NPM_CONFIG_NODE_OPTIONS Npm_Config_Registry RUSTC_WRAPPER CARGO_HOME
    MAVEN_OPTS GRADLE_OPTS ANSIBLE_CONFIG ANSIBLE_VAULT_PASSWORD_FILE DOCKER_CONFIG RSYNC_RSH
    HGRCPATH GNUPGHOME SSLKEYLOGFILE PIP_INDEX_URL PIP_CONFIG_FILE UV_INDEX_URL CC OPENSSL_CONF
    JAVA_OPTS TAR_OPTIONS LESS LESSOPEN DBUS_SESSION_BUS_ADDRESS SSH_SK_PROVIDER GIT_SSH_COMMAND
    GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES DORKY_URL DORKY_IDENTITY SUDO_UID XDG_CONFIG_HOME
"""
# What people keep in such files, and must not have to ask for.
USUAL = """
    DATABASE_URL REDIS_URL PGPASSWORD PGHOST PGSSLMODE PGPASSFILE MYSQL_PASSWORD MONGODB_URI
    AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE AWS_REGION
    AWS_DEFAULT_REGION AWS_ENDPOINT_URL AWS_CA_BUNDLE AWS_ROLE_ARN
    GOOGLE_APPLICATION_CREDENTIALS CLOUDSDK_CORE_PROJECT AZURE_CLIENT_SECRET HTTP_PROXY
    https_proxy NO_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
    NODE_EXTRA_CA_CERTS NODE_ENV NODE_AUTH_TOKEN NPM_TOKEN PORT
    DEBUG LANG LC_ALL TZ
    PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE DJANGO_SETTINGS_MODULE FLASK_APP RAILS_ENV
    RACK_ENV RAILS_MASTER_KEY BUNDLE_GITHUB__COM CARGO_REGISTRY_TOKEN
    CARGO_REGISTRIES_ACME_TOKEN UV_PUBLISH_TOKEN UV_INDEX_ACME_PASSWORD POETRY_PYPI_TOKEN_PYPI
    YARN_NPM_AUTH_TOKEN npm_config__authToken TWINE_PASSWORD COMPOSER_AUTH GITHUB_TOKEN
    GH_TOKEN GITLAB_TOKEN VAULT_ADDR VAULT_TOKEN TF_VAR_db_password ANSIBLE_BECOME_PASSWORD
    SOPS_AGE_KEY DOCKER_HOST DOCKER_PASSWORD KUBE_TOKEN STRIPE_SECRET_KEY SENTRY_DSN
    SECRET_KEY SMTP_PASSWORD SSH_PRIVATE_KEY COMPOSE_PROJECT_NAME LOGNAME USER HOSTNAME TMPDIR
    SSH_AUTH_SOCK
"""


@pytest.mark.parametrize("name", [*SUDO.split(), *OTHERS.split()])
def test_refused(name: str) -> None:
    assert process.dangerous(name.replace("*", ""), "x")


@pytest.mark.parametrize("name", USUAL.split())
def test_let_through(name: str) -> None:
    assert not process.dangerous(name, "/srv/x")


def test_a_function_of_a_shell() -> None:
    assert process.dangerous("ANY", "() { :; }; touch x")


def test_a_pager_that_is_turned_off() -> None:
    assert process.dangerous("AWS_PAGER", "sh x")
    assert not process.dangerous("AWS_PAGER", "")


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_what_make_would_read(ana: Machine) -> None:
    ana("init")
    ana.write("Makefile", "all:\n\t@true\n")
    ana.write("conf/x.mk", "$(shell touch ran)\n")
    ana.write(".env", "MAKEFILES=conf/x.mk\n")
    said = ana("run", "--mask", "--", "make", code=2)
    assert said.hint == "if that is meant, add --allow-env MAKEFILES"
    assert not (ana.project / "ran").exists()
    ana("run", "--mask", "--allow-env", "MAKEFILES", "--", "make")
    assert (ana.project / "ran").exists()


def test_the_guide_has_the_table() -> None:
    guide = (Path(__file__).parents[2] / "docs/guides/secrets.md").read_text()
    rows = [line for line in guide.splitlines() if line.startswith("| ")]
    for topic, words in steering.REFUSED.items():
        assert f"| {topic} | {' '.join(f'`{word}`' for word in words.split())} |" in rows


def test_each_name_is_listed_once() -> None:
    words = [word for names in steering.REFUSED.values() for word in names.split()]
    assert len(words) == len(set(words))
    beginnings = tuple(word[:-1] for word in words if word.endswith("*"))
    assert not [word for word in words if word.startswith(beginnings) and not word.endswith("*")]
