"""JSON from strangers: one value, without a key that stands twice.

Readers differ in which of two equal keys they take, so a text with both says different things to
different programs (RFC 8259, section 4). Such a text is refused.
"""

from __future__ import annotations

import json
from typing import Any


def check(data: bytes) -> Any:
    """Return a JSON text's value, without its numbers.

    Raises:
        ValueError: It is not JSON in UTF-8, names a key twice, or is nested too deeply. The text
            says why, and shows nothing of the content.
    """
    try:
        text = data.decode()
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_number,
            parse_float=_number,
            parse_constant=_refused,
        )
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError:
        raise ValueError("it is not JSON") from None


def check_object(data: bytes) -> dict[str, Any]:
    """Return the value of a JSON text that is an object (see `check`)."""
    found = check(data)
    if isinstance(found, dict):
        return found
    raise ValueError("it is not a JSON object")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has one key twice")
    return found


def _number(_text: str) -> int:
    # Their values matter to nobody, and long ones are slow to convert.
    return 0


def _refused(_text: str) -> int:
    raise ValueError("it is not JSON")
