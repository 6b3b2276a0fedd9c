"""Guards for the programs that cloud SDKs start: they get none of dorky's secrets.

AWS's chain runs a profile's `credential_process`; Google's runs `gcloud` and the executable of an
external account. Both would inherit the environment, with `DORKY_IDENTITY` in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dorky.config import Config


def guard_aws() -> None:
    """Make botocore start programs without dorky's secrets. A second call is harmless."""
    import subprocess

    from botocore.credentials import ProcessProvider

    # A session makes providers in several places (source profiles of roles), all with the default.
    made = ProcessProvider.__init__
    careful = {subprocess.Popen: _Children().Popen}
    made.__defaults__ = tuple(careful.get(default, default) for default in made.__defaults__ or ())


def guard_google() -> None:
    """Make google-auth start programs without dorky's secrets. A second call is harmless."""
    from importlib import import_module

    for module in ("_cloud_sdk", "pluggable", "transport._mtls_helper"):
        vars(import_module(f"google.auth.{module}"))["subprocess"] = _Children()


class _Children:
    """The module `subprocess`, except that child processes inherit none of dorky's secrets."""

    def __getattr__(self, name: str) -> Any:
        import subprocess

        return getattr(subprocess, name)

    def Popen(self, *arguments: Any, **options: Any) -> Any:  # noqa: N802 (subprocess's name)
        """As `subprocess.Popen`."""
        return self._start("Popen", *arguments, **options)

    def run(self, *arguments: Any, **options: Any) -> Any:
        """As `subprocess.run`."""
        return self._start("run", *arguments, **options)

    def check_output(self, *arguments: Any, **options: Any) -> Any:
        """As `subprocess.check_output`."""
        return self._start("check_output", *arguments, **options)

    def _start(
        self, how: str, *arguments: Any, env: Mapping[str, str] | None = None, **options: Any
    ) -> Any:
        import subprocess

        config = Config(None)
        secrets = config.environment.keys() - config.inheritable.keys()
        given = config.environment if env is None else env
        cleaned = {name: value for name, value in given.items() if name not in secrets}
        return getattr(subprocess, how)(*arguments, env=cleaned, **options)
