"""AWS's credential chain, by botocore: environment, files, SSO, processes, a machine's role."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from dorky import errors
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
        import botocore.session

        sdks.guard_aws()
        self._url = url
        self.failure: errors.DorkyError | None = None
        self.session = botocore.session.Session(profile=profile)
        if region and not self.session.get_config_variable("region"):
            self.session.set_config_variable("region", region)
        self._credentials: Any = None
        self()  # so that errors are raised now and not inside obstore

    def __call__(self) -> dict[str, Any]:
        """Return the credentials, in obstore's form, and their expiry."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        # A `credential_process` that is missing or prints something else raises any of these.
        garbled = (ResponseParserError, OSError, ValueError, LookupError, TypeError, AttributeError)
        try:
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
        return min(longest, known) if isinstance(known, datetime) else longest

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
        if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
            # botocore has retried already.
            return errors.Unreachable(
                self._url, f"while getting credentials: {error}", lasting=True
            )
        if isinstance(error, exceptions.ClientError):
            return errors.AccessDenied(self._url, str(error))
        said = " ".join(str(error).split()) or type(error).__name__
        return errors.NoCredentials(self._url, said[:300])
