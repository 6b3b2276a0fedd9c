"""AWS's credential chain, by botocore: environment, files, SSO, processes, a machine's role.

Credentials of roles are cached in the files of the AWS CLI, so that a code for MFA is asked for
once in a session, not once in a command, and not again after the CLI has asked.
"""

from __future__ import annotations

import contextlib
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from dorky import errors, files
from dorky.drivers import sdks
from dorky.drivers.base import check_credentials


class Chain:
    """Returns credentials; obstore calls it whenever its credentials are about to expire.

    Args:
        url: The remote's URL, for messages.
        profile: The profile's name; None for the chain's own choice.
        region: The region for requests to get credentials, if the profile names none.

    Raises:
        NoCredentials: There are none.
        ExpiredCredentials: The user has to renew them (SSO).
        AccessDenied: AWS refuses them.
        Unreachable: The service that gives them can't be reached.
    """

    def __init__(self, url: str, profile: str | None, region: str | None = None) -> None:
        self._url = url
        self.failure: errors.DorkyError | None = None
        self.session = session(profile)
        self._region = region
        self._credentials: Any = None
        self()  # so that errors are raised now and not inside obstore

    def __call__(self) -> dict[str, Any]:
        """Return the credentials, in obstore's form, and their expiry."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        # A `credential_process` that is missing or prints something else raises any of these.
        garbled = (ResponseParserError, OSError, ValueError, LookupError, TypeError, AttributeError)
        try:
            if self._region and not self.session.get_config_variable("region"):
                self.session.set_config_variable("region", self._region)
            self._credentials = self._credentials or self.session.get_credentials()
            if self._credentials is None:
                raise errors.NoCredentials(self._url, "none in the environment or ~/.aws")
            found = self._credentials.get_frozen_credentials()
            check_credentials(self._url, found.access_key, found.secret_key, found.token)
        except errors.NoCredentials as error:
            self.failure = error
            raise
        except (BotoCoreError, ClientError, *garbled) as error:
            self.failure = self._explain(error)
            raise self.failure from error
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token,
            "expires_at": self._expiry(),
        }

    def _expiry(self) -> datetime:
        # botocore renews credentials with less than 10 minutes left, so they last this long; but
        # some never have as much.
        longest = datetime.now(timezone.utc) + timedelta(minutes=10)
        known = getattr(self._credentials, "_expiry_time", None)
        if not isinstance(known, datetime):
            return longest
        # obstore takes no other time zone object, and botocore's comes from dateutil.
        return min(longest, known).astimezone(timezone.utc)

    def defaults(self) -> dict[str, str]:
        """Return the profile's settings other than credentials, by the names of our options."""
        from botocore.configprovider import ConfiguredEndpointProvider

        session = self.session
        endpoints = ConfiguredEndpointProvider(
            full_config=session.full_config,
            scoped_config=session.get_scoped_config(),
            client_name="s3",
        )
        found = {
            "region": session.get_config_variable("region"),
            "ca_bundle": session.get_config_variable("ca_bundle"),
            "endpoint": endpoints.provide(),
        }
        return {name: value for name, value in found.items() if value}

    def _explain(self, error: Exception) -> errors.DorkyError:
        from botocore import exceptions

        expired = (exceptions.SSOError, exceptions.TokenRetrievalError)
        if isinstance(error, expired) or "ExpiredToken" in str(error):
            return errors.ExpiredCredentials(self._url)
        if type(error) is exceptions.HTTPClientError:
            # It repeats an error of any library, which may show a part of a proxy's password.
            from dorky.drivers import connection

            during = "while getting credentials: "
            found = connection.unreached(self._url, repr(error), during=during)
            found.lasting = True
            return found
        if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
            # botocore has retried already.
            return errors.Unreachable(
                self._url, f"while getting credentials: {error}", lasting=True
            )
        if isinstance(error, exceptions.ClientError):
            kind = errors.ClockSkew if is_skewed(str(error)) else errors.AccessDenied
            return kind(self._url, str(error))
        said = " ".join(str(error).split()) or type(error).__name__
        return errors.NoCredentials(self._url, said[:300])


def session(profile: str | None) -> Any:
    """Return a session of botocore's that caches credentials of roles in files.

    Args:
        profile: The profile's name; None for the chain's own choice.
    """
    import botocore.session
    from botocore.credentials import create_credential_resolver

    sdks.guard_aws()
    made = botocore.session.Session(profile=profile)

    def resolver() -> Any:
        found = create_credential_resolver(made, cache=_RoleCache())
        found.get_provider("assume-role")._prompter = _ask  # noqa: SLF001
        return found

    made.lazy_register_component("credential_provider", resolver)
    return made


def is_skewed(said: str) -> bool:
    """Return whether a service of AWS refuses a request because of its time."""
    return any(sign in said for sign in _SKEWED)


_SKEWED = ("RequestTimeTooSkewed", "Signature expired", "Signature not yet current")


def _ask(prompt: str) -> str:
    """Ask on the terminal for a code.

    Raises:
        CredentialRetrievalError: There is no terminal.
    """
    import getpass
    import warnings

    from botocore.exceptions import CredentialRetrievalError

    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(prompt)
        except (getpass.GetPassWarning, EOFError, OSError):
            # Without a terminal, getpass would read a line of what is piped to the command.
            raise CredentialRetrievalError(
                provider="assume-role",
                error_msg="the role asks for an MFA code, and there is no terminal to ask on",
            ) from None


_CACHED = 1 << 16
"""The most bytes of a file in the cache."""
_FIELDS = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")


class _RoleCache:
    """The AWS CLI's cache of credentials of roles, as a mapping for botocore.

    Files that others may have written are left alone, and so is a home that is not the user's.
    """

    def __init__(self) -> None:
        self._directory: Path | None = None
        with contextlib.suppress(RuntimeError, OSError):  # there is no home
            home = Path.home()
            if home.stat().st_uid == os.geteuid():
                self._directory = home / ".aws" / "cli" / "cache"

    def __contains__(self, key: str) -> bool:
        return self._read(key) is not None

    def __getitem__(self, key: str) -> Any:
        found = self._read(key)
        if found is None:
            raise KeyError(key)
        return found

    def __setitem__(self, key: str, value: object) -> None:
        from botocore.credentials import JSONFileCache

        if self._directory is None:
            return
        with contextlib.suppress(OSError, ValueError):  # it is asked for again
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_own(self._directory):
                JSONFileCache(str(self._directory))[key] = value

    def _read(self, key: str) -> Any:
        if self._directory is None:
            return None
        path = self._directory / f"{key}.json"
        try:
            data = files.read_small(path, _CACHED, owners={os.geteuid()})
            found = json.loads(data or b"{}")
            given = [found["Credentials"][field] for field in _FIELDS]
            if not all(isinstance(text, str) for text in given):
                return None
            end = given[-1].replace("UTC", "Z").replace("+00:00", "Z")
            datetime.fromisoformat(end.removesuffix("Z"))
            return found if end.endswith("Z") else None
        except (errors.DorkyError, ValueError, LookupError, TypeError, RecursionError):
            return None


def _is_own(directory: Path) -> bool:
    found = directory.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022
