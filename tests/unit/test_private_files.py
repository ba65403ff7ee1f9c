"""What commands write of a run's texts is nobody's but its owner's and the group's."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from seal_ray.commands import compare_page, report
from seal_ray.commands.compare import compare
from seal_ray.commands.private_files import write_private
from seal_ray.errors import ConfigError
from seal_ray.loops.history import Run

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def open_handed() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_page_is_nobody_elses_whatever_the_umask_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run = Run(str(ROOT / "tests/recorded/v0.1.0/run"))
    report.write(run, tmp_path / "report.html")
    compare_page.write(compare([run, run]), tmp_path / "compare.html")
    write_private(tmp_path / "text", "half \ud800")
    for name in ("report.html", "compare.html", "text"):
        assert (tmp_path / name).stat().st_mode & 0o007 == 0, name
    assert (tmp_path / "text").read_text() == "half ?"


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for to in (tmp_path / "file/page.html", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError, match=r"can't be written.*--to"):
            write_private(to, "a page")


def test_no_command_writes_texts_of_a_run_in_another_way() -> None:
    folder, own = ROOT / "seal_ray/commands", re.compile(r"\.write_(text|bytes)\(")
    assert [f.name for f in folder.rglob("*.py") if own.search(f.read_text())] == ["private_files.py"]


def test_what_is_no_file_keeps_its_rights(tmp_path: Path) -> None:
    folder, pipe = tmp_path / "folder", tmp_path / "pipe"
    folder.mkdir(mode=0o755)
    os.mkfifo(pipe, 0o666)
    for to in (folder, pipe):
        before = to.stat().st_mode
        with pytest.raises(ConfigError, match=r"no regular file.*--to"):
            write_private(to, "a page")
        assert to.stat().st_mode == before
