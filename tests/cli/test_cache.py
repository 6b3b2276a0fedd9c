"""The cache of programs that use the library, from the command line."""

from __future__ import annotations

import msgspec
from machines import Machine, noise
from servers import Remote

from dorky.client import DorkyClient
from dorky.results import CacheStats


def test_the_cache_is_shown_and_emptied(ana: Machine, file_url: Remote) -> None:
    ana.env["DORKY_CLIENT_CACHE"] = ""
    ana.env["DORKY_CLIENT_CACHE_MAX_SIZE"] = "5000000"

    def stats() -> CacheStats:
        return msgspec.json.decode(ana("cache", "stats", "--json").raw, type=CacheStats)

    directory = ana.home / ".cache" / "dorky" / "client-1"
    empty = CacheStats(
        directory=str(directory), repositories=0, entries=0, size=0, max_size=5_000_000
    )
    assert stats() == empty
    ana("cache", "clear")
    assert not directory.exists()
    with ana.here(), DorkyClient.create(str(ana.base / "other"), cache=True) as client:
        client.upload(noise(500_000), "large")
    with ana.here(), DorkyClient(str(ana.base / "other"), cache=True) as client:
        client.read("large")
    found = stats()
    assert found.repositories == 1
    assert found.entries > 2
    assert 0 < found.size < found.max_size
    said = ana("cache", "stats").out
    assert said.startswith(f"{directory}\n{found.entries} files of 1 repositories: ")
    assert ana("cache", "clear", "--dry-run").out.startswith(f"Would delete {found.entries} files")
    assert stats() == found
    assert msgspec.json.decode(ana("cache", "clear", "--json").raw, type=CacheStats) == found
    assert stats() == empty
    ana("config", "set", "--user", "client_cache", "no")
    assert not stats().directory
    assert "turned off" in ana("cache", "stats").err
    ana("cache", "clear")
    ana("config", "set", "--user", "client_cache", str(ana.base / "elsewhere"))
    assert stats().directory == str(ana.base / "elsewhere" / "client-1")
    (ana.base / "elsewhere" / "client-1").mkdir(parents=True, mode=0o755)
    (ana.base / "elsewhere" / "client-1").chmod(0o755)
    assert "other users may enter it" in ana("cache", "stats").err
    assert "other users" in ana("cache", "clear", code=8).error
    ana.env["DORKY_CLIENT_CACHE_MAX_SIZE"] = "12"
    assert "at least 1 MiB" in ana("cache", "stats", code=2).error
