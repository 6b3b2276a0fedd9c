"""Read a table as a notebook does: straight from the repository, and as it was in each version.

DORKY_URL=s3://acme-vault/data python read_table.py sales.csv amount
"""

from __future__ import annotations

import csv
import sys

from dorky import DorkyClient


def main(path: str, column: str) -> None:
    with DorkyClient.from_env() as client:
        for info in client.versions(path):
            with client.open(info.id, "r") as file:
                total = sum(float(row[column]) for row in csv.DictReader(file))
            print(f"{info.version[:10]}  {total:g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
