"""Signatures, SBOMs and attestations: what vouches for a file, in formats that others verify.

A claim about a file is a `statement` (in-toto), signed in an envelope (`dsse`) within a `bundle`
(Sigstore's). `verification` says what it is worth to somebody who trusts some `signers`. All of it
is pure: bytes in, records out; no repository and no network.

Example:
    Sign a file's content, and verify the signature::

        key = private_keys.load(Path("release.pem"))
        claim = statement.signature("model.bin", sha256, Origin(...))
        data = bundle.sign(claim, key)

        trust = Trust(signers.parse(text, ".dorkysigners"))
        subject = Subject("model.bin", sha256, repository)
        verdicts = verification.examine([data], subject, trust, now=...)
"""
