"""dorky: git for the files git must not hold.

    from pathlib import Path
    from dorky import Repository

    with Repository.find(Path.cwd()) as repo:
        repo.stage([".env"])
        repo.commit("staging keys")
        repo.push()

Everything public is re-exported here and loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dorky.aio import (
        AsyncBatch,
        AsyncDorkyClient,
        AsyncFile,
        AsyncItems,
        AsyncUploadSession,
    )
    from dorky.client import (
        ABSENT,
        Batch,
        BatchResult,
        CommitInfo,
        Config,
        Credentials,
        DorkyClient,
        Download,
        FileInfo,
        Progress,
        Retry,
        Snapshot,
        Timeout,
        UploadSession,
    )
    from dorky.drivers.base import Driver
    from dorky.errors import (
        BadRequestError,
        BatchError,
        ConflictError,
        DorkyError,
        ForbiddenError,
        IntegrityError,
        InternalServerError,
        NotFoundError,
        RateLimitedError,
        ServiceUnavailableError,
        TimeoutError,
        UnauthorizedError,
        UnencryptedRepository,
        UpdateConflict,
    )
    from dorky.library.bars import rich_progress, tqdm_progress
    from dorky.progress import Progress as ProgressSink
    from dorky.repo import Repository
    from dorky.results import Attestation, BucketInfo, BucketReport, Sbom, Signature, Verification

__version__ = "0.1.0"
__all__ = [
    "ABSENT",
    "AsyncBatch",
    "AsyncDorkyClient",
    "AsyncFile",
    "AsyncItems",
    "AsyncUploadSession",
    "Attestation",
    "BadRequestError",
    "Batch",
    "BatchError",
    "BatchResult",
    "BucketInfo",
    "BucketReport",
    "CommitInfo",
    "Config",
    "ConflictError",
    "Credentials",
    "DorkyClient",
    "DorkyError",
    "Download",
    "Driver",
    "FileInfo",
    "ForbiddenError",
    "IntegrityError",
    "InternalServerError",
    "NotFoundError",
    "Progress",
    "ProgressSink",
    "RateLimitedError",
    "Repository",
    "Retry",
    "Sbom",
    "ServiceUnavailableError",
    "Signature",
    "Snapshot",
    "Timeout",
    "TimeoutError",
    "UnauthorizedError",
    "UnencryptedRepository",
    "UpdateConflict",
    "UploadSession",
    "Verification",
    "__version__",
    "rich_progress",
    "tqdm_progress",
]

_HOME = {
    "dorky.aio": "AsyncBatch AsyncDorkyClient AsyncFile AsyncItems AsyncUploadSession",
    "dorky.client": (
        "ABSENT Batch BatchResult CommitInfo Config Credentials DorkyClient Download FileInfo "
        "Progress Retry Snapshot Timeout UploadSession"
    ),
    "dorky.drivers.base": "Driver",
    "dorky.errors": (
        "BadRequestError BatchError ConflictError DorkyError ForbiddenError IntegrityError "
        "InternalServerError NotFoundError RateLimitedError ServiceUnavailableError TimeoutError "
        "UnauthorizedError UnencryptedRepository UpdateConflict"
    ),
    "dorky.library.bars": "rich_progress tqdm_progress",
    "dorky.progress": "ProgressSink",
    "dorky.repo": "Repository",
    "dorky.results": "Attestation BucketInfo BucketReport Sbom Signature Verification",
}
_NAMES = {name: home for home, names in _HOME.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in _NAMES:
        raise AttributeError(f"module 'dorky' has no attribute {name!r}")
    import importlib

    home = importlib.import_module(_NAMES[name])
    return getattr(home, "Progress" if name == "ProgressSink" else name)
