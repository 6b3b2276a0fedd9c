"""Creation: start a repository in an empty place, without a worktree."""

from __future__ import annotations

import os

from dorky import errors, temporary
from dorky.commands import setup
from dorky.library.records import Config
from dorky.library.session import connection_of, environment_of
from dorky.project import Project


def create(config: Config, recovery: str, *, exist_ok: bool) -> str:
    """Start a repository.

    Args:
        config: The client's configuration.
        recovery: A public key that opens it, too.
        exist_ok: Whether there may be one already.

    Returns:
        Its fingerprint; empty if it is unencrypted, or was there already.

    Raises:
        RepositoryExists: There is one already.
    """
    options: dict[str, str | bool] = {
        name: str(getattr(config, name))
        for name in ("profile", "region", "endpoint")
        if getattr(config, name)
    }
    environment = environment_of(config, dict(os.environ))
    if config.identity and "DORKY_IDENTITY" not in environment:
        environment["DORKY_IDENTITY_FILE"] = config.identity
    with temporary.directory() as place:
        try:
            project, _ = setup.init(
                Project,
                place / "project",
                config.url,
                plain=config.unencrypted,
                recovery=recovery,
                options=options,
                environment=environment,
                connection=connection_of(config),
            )
        except errors.RepositoryExists:
            if exist_ok:
                return ""
            raise
        with project:
            return "" if config.unencrypted else project.vault.fingerprint
