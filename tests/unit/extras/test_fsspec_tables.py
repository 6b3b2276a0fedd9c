"""Tables by URL or by a registered file system: pandas, pyarrow and DuckDB."""

from __future__ import annotations

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileType, FSSpecHandler, PyFileSystem
from servers import Remote

from dorky.client import DorkyClient
from dorky.extras.fsspec import DorkyFileSystem

FRAME = pd.DataFrame({"n": range(1000), "text": [f"row {n}" for n in range(1000)]})


@pytest.fixture
def fs(file_url: Remote) -> DorkyFileSystem:
    client = DorkyClient.create(file_url.url)
    return DorkyFileSystem(client.url, skip_instance_cache=True)


def commits(fs: DorkyFileSystem) -> int:
    return len([*fs.client.log()])


def test_pandas(fs: DorkyFileSystem) -> None:
    options = {"remote": fs.client.url}
    FRAME.to_csv("dorky://t/a.csv", index=False, storage_options=options)
    FRAME.to_csv("dorky://t/a.csv.gz", index=False, storage_options=options)
    FRAME.to_parquet("dorky://t/a.parquet", storage_options=options)
    FRAME.to_json("dorky://t/a.json", storage_options=options)
    assert commits(fs) == 4
    for found in (
        pd.read_csv("dorky://t/a.csv", storage_options=options),
        pd.read_csv(fs.unstrip_protocol("t/a.csv")),
        pd.read_csv("dorky://t/a.csv.gz", storage_options=options),
        pd.read_parquet("dorky://t/a.parquet", storage_options=options),
        pd.read_parquet(fs.unstrip_protocol("t/a.parquet")),
        pd.read_json("dorky://t/a.json", storage_options=options),
    ):
        assert found.equals(FRAME)
    columns = pd.read_parquet("dorky://t/a.parquet", columns=["n"], storage_options=options)
    assert [*columns] == ["n"]
    with pytest.raises(FileNotFoundError):
        pd.read_csv("dorky://none.csv", storage_options=options)


def test_pyarrow(fs: DorkyFileSystem) -> None:
    table = pa.Table.from_pandas(FRAME)
    pq.write_table(table, "one.parquet", filesystem=fs)
    assert pq.read_table("one.parquet", filesystem=fs).equals(table)
    assert pq.read_table(fs.unstrip_protocol("one.parquet"), filesystem=fs).equals(table)
    wide = table.append_column("part", pa.array([n % 4 for n in range(1000)]))
    before = commits(fs)
    with fs.transaction:
        ds.write_dataset(
            wide,
            "set",
            filesystem=fs,
            format="parquet",
            partitioning=ds.partitioning(pa.schema([("part", pa.int64())]), flavor="hive"),
        )
    assert commits(fs) == before + 1
    assert fs.ls("set", detail=False) == [f"set/part={n}" for n in range(4)]
    found = ds.dataset("set", filesystem=fs, format="parquet", partitioning="hive")
    assert found.count_rows() == 1000
    rows = found.to_table(filter=ds.field("part") == 3, columns=["n"]).to_pydict()["n"]
    assert sorted(rows) == [n for n in range(1000) if n % 4 == 3]
    arrow = PyFileSystem(FSSpecHandler(fs))
    one, none, place = arrow.get_file_info(["one.parquet", "none", "set"])
    assert (one.type, one.size) == (FileType.File, fs.size("one.parquet"))
    assert one.mtime == fs.modified("one.parquet")
    assert (none.type, place.type) == (FileType.NotFound, FileType.Directory)
    with arrow.open_input_file("one.parquet") as file:
        file.seek(-4, 2)
        assert file.read() == b"PAR1"
    arrow.delete_dir("set")
    assert not fs.exists("set")


def test_duckdb(fs: DorkyFileSystem) -> None:
    FRAME.to_parquet("a.parquet", filesystem=fs)
    fs.pipe({f"csv/{n}.csv": f"n\n{n}\n".encode() for n in range(5)})
    before = commits(fs)
    with duckdb.connect() as database:
        database.register_filesystem(fs)
        ask = "select sum(n) from 'dorky://a.parquet' where n < 10"
        assert database.execute(ask).fetchall() == [(45,)]
        ask = "select count(*), sum(n) from read_csv('dorky://csv/*.csv')"
        assert database.execute(ask).fetchall() == [(5, 10)]
        copy = "copy (select n * 2 as n from 'dorky://a.parquet') to 'dorky://out.parquet'"
        database.execute(copy)
    assert commits(fs) == before + 1
    assert pq.read_table("out.parquet", filesystem=fs).to_pydict()["n"] == [
        2 * n for n in range(1000)
    ]
