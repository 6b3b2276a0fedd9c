"""The cache of clients without a worktree: what it takes, and how to be rid of it."""

from __future__ import annotations

from dorky.config import Config
from dorky.remote.cache import Cache
from dorky.results import CacheStats


def stats(config: Config) -> CacheStats:
    """Return what the cache takes."""
    cache = Cache(config.client_cache, config.client_cache_max_size)
    repositories, entries, size = cache.content()
    return CacheStats(
        directory=str(cache.directory or ""),
        repositories=repositories,
        entries=entries,
        size=size,
        max_size=cache.limit,
        unusable=cache.why_not(),
    )


def clear(config: Config) -> CacheStats:
    """Delete everything in the cache; return what it took.

    Raises:
        DiskError: The disk refuses, or the directory is not the user's own.
        Locked: Another process makes room just now.
    """
    before = stats(config)
    if before.directory:
        Cache(config.client_cache).clear()
    return before
