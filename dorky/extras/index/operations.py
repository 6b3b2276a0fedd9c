"""What the operator of a server sees: its log and its metrics."""

from __future__ import annotations

import json
import threading
from collections import Counter
from datetime import datetime, timezone
from typing import ClassVar, TextIO


class Log:
    """A log of JSON, a line for each request and event. Any number of threads may use it.

    No line holds a query, a header but the client's name of itself, or a user name: tokens come in
    all of these.

    Args:
        stream: Where it is written.
        requests: Whether requests are logged.
        events: Whether what goes as it should is logged.
    """

    def __init__(self, stream: TextIO, *, requests: bool = True, events: bool = True) -> None:
        self._stream = stream
        self._requests = requests
        self._events = events
        self._lock = threading.Lock()

    def request(self, **fields: object) -> None:
        """Log a request that was answered."""
        if self._requests:
            self._write({"event": "request", **fields})

    def event(self, event: str, **fields: object) -> None:
        """Log anything else that goes as it should."""
        if self._events:
            self._write({"event": event, **fields})

    def error(self, message: str) -> None:
        """Log something that went wrong."""
        self._write({"event": "error", "message": message})

    def _write(self, fields: dict[str, object]) -> None:
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"time": time.replace("+00:00", "Z"), **fields})
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                return  # nobody reads it: no reason to stop serving


class Metrics:
    """Counts for Prometheus. Any number of threads may use it."""

    _HELP: ClassVar = {
        "requests_total": "Requests that were answered.",
        "request_seconds_total": "The seconds that answers took.",
        "sent_bytes_total": "The bytes of answers' bodies.",
        "uploads_total": "Uploads, by what became of them.",
        "failed_logins_total": "Requests with a token that is not valid.",
        "root_age_seconds": "The seconds since the newest state was asked for.",
    }

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, amount: float = 1, **labels: object) -> None:
        """Add to a count."""
        key = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
        with self._lock:
            self._counts[name, key] += amount  # type: ignore[assignment]

    def text(self, *, root_age: float | None) -> str:
        """Return all counts as Prometheus reads them."""
        with self._lock:
            counts: dict[tuple[str, str], float] = dict(self._counts)
        if root_age is not None:
            counts["root_age_seconds", ""] = round(root_age, 3)
        lines = []
        for name, about in self._HELP.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP dorky_python_{name} {about}", f"# TYPE dorky_python_{name} {kind}"]
            lines += [
                f"dorky_python_{name}{{{labels}}} {amount:g}"
                if labels
                else f"dorky_python_{name} {amount:g}"
                for (counted, labels), amount in sorted(counts.items())
                if counted == name
            ]
        return "\n".join(lines) + "\n"
