"""`python -m benchmarks.provenance [COUNT]`: how long verifying signed statements takes.

A tenth of COUNT, then COUNT statements about as many files are verified by each type of key. It
prints the processor time of one, which has to be the same for both.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dorky.provenance import bundle, public_keys, statement, verification
from dorky.provenance.private_keys import PrivateKey
from dorky.provenance.signers import Signer
from dorky.provenance.statement import Origin
from dorky.provenance.verification import Subject, Trust

KEYS: dict[str, Callable[[], Any]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "Ed25519": Ed25519PrivateKey.generate,
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
}
NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)


def verify(bundles: Sequence[bytes], subjects: Sequence[Subject], trust: Trust) -> float:
    """Return the seconds of processor time that verifying all takes."""
    begun = time.process_time()
    for data, subject in zip(bundles, subjects, strict=True):
        [verdict] = verification.examine([data], subject, trust, now=NOW)
        assert verdict.state == "valid"
    return time.process_time() - begun


def measure(kind: str, count: int) -> tuple[float, float]:
    """Return the microseconds that one of a tenth of the statements takes, and one of all."""
    made = KEYS[kind]()
    key = PrivateKey(public_keys.of(made.public_key()), made)
    trust = Trust([Signer(("ana",), key.public)])
    subjects = [Subject(f"models/{n}.bin", f"{n:064x}", "ab" * 16) for n in range(count)]
    origin = Origin("ab" * 16, "cd" * 32, NOW)
    bundles = [
        bundle.sign(statement.signature(one.path, one.sha256, origin), key) for one in subjects
    ]
    few = max(count // 10, 1)
    seconds = verify(bundles[:few], subjects[:few], trust), verify(bundles, subjects, trust)
    return seconds[0] / few * 1e6, seconds[1] / count * 1e6


def main() -> None:
    """Measure each type of key."""
    count = int(sys.argv[1] if len(sys.argv) > 1 else 10_000)
    for kind in KEYS:
        few, many = measure(kind, count)
        print(f"{kind:8} {few:5.0f} µs each of {count // 10:,}, {many:5.0f} µs each of {count:,}")


if __name__ == "__main__":
    main()
