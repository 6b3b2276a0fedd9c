"""Upload what a CI job has built. A job that runs twice uploads it once.

    DORKY_URL=s3://acme-vault/builds DORKY_IDENTITY=… python upload_artifact.py dist/app.tar app.tar

The pipeline's id makes a repeat harmless; without one, every run is a version of its own.
"""

from __future__ import annotations

import os
import sys

from dorky import DorkyClient


def main(source: str, path: str) -> None:
    run = os.environ.get("CI_PIPELINE_ID", "")
    with DorkyClient.from_env() as client:
        info = client.upload(
            source,
            path,
            message=f"Build {run or 'by hand'}",
            metadata={"commit": os.environ.get("CI_COMMIT_SHA", "unknown")},
            idempotency_key=f"{run}:{path}" if run else "",
        )
    print(info.id)


if __name__ == "__main__":
    main(*sys.argv[1:])
