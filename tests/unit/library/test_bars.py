"""Progress bars of tqdm and of rich, made by these libraries."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import rich.progress
import tqdm
from rich.console import Console

import dorky
from dorky import errors, rich_progress, tqdm_progress
from dorky.client import DorkyClient, Progress
from dorky.library.bars import Bars


def told(
    done: int, total: int | None, *, files: int = 0, of: int = 1, path: str = "a/b"
) -> Progress:
    return Progress(
        path=path, operation="upload", done=done, total=total, files_done=files, files_total=of
    )


class Kept(tqdm.tqdm):  # type: ignore[type-arg]
    """Bars that are remembered."""

    made: list[Kept]

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, file=io.StringIO(), mininterval=0, **options)  # type: ignore[call-overload]
        self.made.append(self)


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Kept]:
    monkeypatch.setattr(Kept, "made", [], raising=False)
    return Kept.made


def test_a_bar_of_tqdm_shows_a_transfer_and_ends_with_it(bars: list[Kept]) -> None:
    show = tqdm_progress(Kept)
    assert not bars
    show(told(0, None))
    show(told(3_000_000, 4_000_000))
    (bar,) = bars
    assert (bar.n, bar.total, bar.unit, bar.desc) == (3_000_000, 4_000_000, "B", "a/b: ")
    assert "2.86M/3.81M" in str(bar)
    show(told(4_000_000, 4_000_000, files=1))
    assert bar.n == 4_000_000
    assert bar.disable  # closed
    # The next transfer has a bar of its own.
    show(told(5, 10, files=1, of=3))
    assert len(bars) == 2
    assert bars[1].desc == "upload 1/3: "


def test_options_of_tqdm_are_passed_on(bars: list[Kept]) -> None:
    show = tqdm_progress(Kept, desc="models", unit_scale=False)
    show(told(5, 10))
    assert (bars[0].desc, bars[0].unit_scale) == ("models", False)


def test_a_transfer_that_fails_leaves_no_bar_open(bars: list[Kept]) -> None:
    def fail() -> None:
        with tqdm_progress(Kept) as show:
            show(told(5, 10))
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    assert (bars[0].n, bars[0].disable) == (5, True)


def test_no_path_steers_a_terminal(bars: list[Kept]) -> None:
    show = tqdm_progress(Kept)
    show(told(5, 10, path="\x1b[2Ja\nb/" + "long/" * 40 + "end"))
    assert bars[0].desc.isprintable()
    assert len(bars[0].desc) < 50
    assert "end" in bars[0].desc


def test_tqdm_s_own_class_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    show = tqdm_progress()
    show(told(10, 10, files=1))
    assert "100%" in capsys.readouterr().err


def test_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(errors.MissingLibrary, match="pip install tqdm"):
        tqdm_progress()
    assert isinstance(tqdm_progress(Kept), Bars)


def running() -> rich.progress.Progress:
    return rich.progress.Progress(console=Console(file=io.StringIO(), width=120))


def test_a_task_of_rich_shows_a_transfer() -> None:
    with running() as progress:
        show = rich_progress(progress)
        show(told(5, 10, path="[bold]a[/bold]"))
        (task,) = progress.tasks
        assert (task.completed, task.total, task.finished) == (5, 10, False)
        assert task.description == r"\[bold]a\[/bold]"
        show(told(10, 10, files=1))
        assert task.finished
        show(told(1, None))
        assert len(progress.tasks) == 2
        assert progress.live.is_started  # it is the caller's


def test_a_bar_of_rich_ends_with_its_transfer(capsys: pytest.CaptureFixture[str]) -> None:
    show = rich_progress()
    show(told(5, 10))
    show(told(10, 10, files=1))
    assert "a/b" in capsys.readouterr().out
    with rich_progress() as show:
        show(told(5, 10))


def test_every_transfer_tells_how_far_it_is(tmp_path: Path, bars: list[Kept]) -> None:
    """The bars come to their end, at the size of what was transferred."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}").write_bytes(bytes(1000))
    show = tqdm_progress(Kept)
    with DorkyClient.create(str(tmp_path / "vault"), unencrypted=True) as client:
        client.upload_folder(folder, "data", progress=show)
        client.upload(bytes(500), "one", progress=show)
        client.download("one", tmp_path / "one", progress=show)
        client.snapshot(tmp_path / "all", progress=show)
        client.snapshot(tmp_path / "all", progress=show)  # nothing to do
        client.download_batch(["one", "data/1"], tmp_path / "some", progress=show)
        client.upload_batch([(b"x", "x"), (b"yy", "y")], progress=show)
    assert [bar.n for bar in bars] == [3000, 500, 500, 3500, 1500, 3]
    assert all(bar.disable and bar.n == bar.total for bar in bars)
    assert dorky.tqdm_progress is tqdm_progress
