"""Publish a model: its weights, its card and the name `latest` change in one commit, or not at all.

DORKY_URL=s3://acme-vault/models python publish_model.py weights.bin v4
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone

from dorky import DorkyClient


def main(weights: str, name: str) -> None:
    with DorkyClient.from_env() as client:
        with client.batch(message=f"Publish {name}") as batch:
            batch.upload(weights, f"models/{name}/weights.bin")
            with batch.open(f"models/{name}/card.json", "w") as card:
                json.dump({"name": name, "time": datetime.now(timezone.utc).isoformat()}, card)
            batch.copy(f"models/{name}/weights.bin", "models/latest.bin")
        print(batch.commit.version if batch.commit else "nothing has changed")


if __name__ == "__main__":
    main(*sys.argv[1:])
