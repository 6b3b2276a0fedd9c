"""AWS KMS keys as recipients, through boto3.

The encryption context binds each ciphertext to one repository, so that data from one repository
can't be passed off as another's.
Source: https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dorky import errors
from dorky.drivers import aws

PREFIX = "awskms:"

_ARN = re.compile(
    r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):\d{12}:(key/[A-Za-z0-9-]{1,64}|alias/[\w/-]{1,250})",
    re.ASCII,
)

_CIPHERTEXT = 6144  # the most bytes that KMS takes

_KINDS: Mapping[str, type[errors.DorkyError]] = {
    "IncorrectKeyException": errors.KMSMismatch,
    "InvalidCiphertextException": errors.KMSMismatch,
    "InvalidArnException": errors.KMSKeyNotFound,
    "NotFoundException": errors.KMSKeyNotFound,
    "ExpiredToken": errors.ExpiredCredentials,
    "ExpiredTokenException": errors.ExpiredCredentials,
    "RequestExpired": errors.ExpiredCredentials,
    "TokenRefreshRequired": errors.ExpiredCredentials,
}
_UNUSABLE: Mapping[str, str] = {
    "DisabledException": "it is disabled",
    "InvalidKeyUsageException": "it is not for encryption",
    "KMSInvalidStateException": "it is disabled, or about to be deleted",
    "KeyUnavailableException": "it is not available",
    "ValidationException": "it is no symmetric key, or KMS refuses the request",
}
_BUSY = frozenset(
    {
        "DependencyTimeoutException",
        "InternalFailure",
        "KMSInternalException",
        "LimitExceededException",
        "ServiceUnavailable",
        "ThrottlingException",
    }
)


def parse(text: str) -> str:
    """Read a recipient ``awskms:ARN``, with the ARN of a key or of an alias.

    Returns:
        The ARN.

    Raises:
        BadRecipient: The text is no such recipient.
    """
    arn = text.strip().removeprefix(PREFIX)
    if not _ARN.fullmatch(arn):
        raise errors.BadRecipient(
            "What stands there",
            "the ARN of a KMS key or alias is not written so",
            kind="kms",
        )
    return arn


def lock(secret: str, arn: str, repository: str, *, profile: str | None = None) -> bytes:
    """Encrypt a secret of at most 4096 bytes for everyone who may use a KMS key.

    Args:
        secret: The text to encrypt.
        arn: The ARN of a key or an alias, which also names the region.
        repository: The id of the repository that the secret is for.
        profile: The AWS profile; by default the one that the AWS chain takes.

    Raises:
        BadRecipient: The ARN is not one of a KMS key.
        NoCredentials: AWS's chain of credentials holds none.
        ExpiredCredentials: They have expired.
        AccessDenied: They may not use the key.
        KMSKeyNotFound: The key does not exist.
        KMSKeyUnusable: The key is disabled, or not for encryption.
        Unreachable: KMS did not answer; ServerBusy: it asked to wait.
    """
    plaintext = {"Plaintext": secret.encode()}
    return _call("encrypt", plaintext, "CiphertextBlob", arn, repository, profile)


def unlock(data: bytes, arn: str, repository: str, *, profile: str | None = None) -> str:
    """Decrypt what `lock` made.

    Raises:
        KMSMismatch: It was made with another key or for another repository, or was altered.
        DorkyError: As for `lock`.
    """
    if not 0 < len(data) <= _CIPHERTEXT:  # KMS would only say that the request is wrong
        raise errors.KMSMismatch(arn)
    opened = _call("decrypt", {"CiphertextBlob": data}, "Plaintext", arn, repository, profile)
    try:
        return opened.decode()
    except UnicodeDecodeError:
        raise errors.KMSMismatch(arn) from None


def _call(
    name: str,
    given: Mapping[str, bytes],
    wanted: str,
    arn: str,
    repository: str,
    profile: str | None,
) -> bytes:
    """Call an operation of KMS, and return one field of the answer."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    found = _ARN.fullmatch(parse(arn))
    assert found
    # A user with several ways to open a repository must not wait long for this one.
    patience = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2})
    # KeyId also when decrypting: otherwise KMS takes any key that the ciphertext names.
    asked = {"KeyId": arn, "EncryptionContext": {"dorky": repository}, **given}
    try:
        session = boto3.Session(botocore_session=aws.session(profile), region_name=found["region"])
        if session.get_credentials() is None:
            raise errors.NoCredentials(arn, "none in the environment or ~/.aws")
        answer = getattr(session.client("kms", config=patience), name)(**asked)
    except (BotoCoreError, ClientError, ResponseParserError, ValueError) as error:
        # No cause is attached, because boto3's errors quote their input.
        raise _explain(error, arn) from None
    if wanted not in answer:
        raise errors.BadEndpoint(f"AWS KMS for {arn}", f"its answer has no {wanted}")
    return bytes(answer[wanted])


def _explain(error: Exception, arn: str) -> errors.DorkyError:
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    if isinstance(error, exceptions.ClientError):
        return _answered(error, arn)
    if isinstance(error, exceptions.SSOError | exceptions.TokenRetrievalError):
        return errors.ExpiredCredentials(arn)
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        return errors.Unreachable(f"AWS KMS for {arn}", error, lasting=True)
    if isinstance(error, ResponseParserError):
        return errors.BadEndpoint(f"AWS KMS for {arn}", "its answer is not what KMS says")
    if isinstance(error, ValueError):  # botocore raises it for an endpoint that is no URL
        return errors.BadEndpoint(f"AWS KMS for {arn}", error)
    return errors.NoCredentials(arn, error)


def _answered(error: Any, arn: str) -> errors.DorkyError:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code", "")
    if aws.is_skewed(str(error)):
        return errors.ClockSkew(f"AWS KMS for {arn}", code)
    if kind := _KINDS.get(code):
        return kind(arn)
    if why := _UNUSABLE.get(code):
        return errors.KMSKeyUnusable(arn, why)
    if code in _BUSY or status >= 500:
        return errors.ServiceUnavailableError(f"AWS KMS for {arn}", code)
    if status in {400, 401, 403} and code:
        return errors.AccessDenied(arn, code, to="kms")
    return errors.BadEndpoint(f"AWS KMS for {arn}", f"{status} {code}".strip())
