"""The node's cache of models: once for all processes, whole or not at all, never over its limit by what nobody uses."""

import fcntl
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import pytest

from seal_ray.errors import ConfigError, InfraError
from seal_ray.models import file_lock
from seal_ray.models.cache import GIB, ModelCache

USER = Path(__file__).with_name("cache_user.py")


def start(root: Path, key: str, how: str = "quick", size: int = 100, limit: int = 10_000) -> subprocess.Popen[str]:
    command = [sys.executable, str(USER), str(root), str(limit), key, str(size), how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out.strip()


def made(root: Path) -> list[str]:
    return (root / "made").read_text().split()


def entries(root: Path) -> list[str]:
    return sorted(p.name for p in (root / "models").iterdir() if p.is_dir())


def test_many_processes_of_a_node_fetch_a_model_once(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with open(tmp_path / "models" / "model.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # nobody can begin before all have seen that it is not there
        users = [start(tmp_path, "model", "tell") for _ in range(5)]
        assert [user.stdout.readline() for user in users if user.stdout] == ["asking\n"] * 5
        time.sleep(0.3)
    assert [finish(user) for user in users] == ["['weights']"] * 5
    assert made(tmp_path) == ["model"]


def test_who_waited_has_it_as_soon_as_it_is_made_though_its_maker_goes_on_holding_it(tmp_path: Path) -> None:
    maker = start(tmp_path, "model", "late")
    assert maker.stdout is not None and maker.stdout.readline() == "making\n"
    cache = ModelCache(tmp_path, 1, deadline=30.0)
    assert cache.take("model", lambda _: pytest.fail("it was made twice")) == cache.folder("model")
    assert maker.poll() is None and maker.stdout.readline() == "['weights']\n"
    finish(maker)


def test_a_process_killed_while_it_fetches_leaves_no_half_of_a_model(tmp_path: Path) -> None:
    victim = start(tmp_path, "model", "hang")
    assert victim.stdout is not None and victim.stdout.readline() == "making\n"
    victim.kill()
    victim.wait(timeout=60)
    assert entries(tmp_path) == []
    assert finish(start(tmp_path, "model")) == "['weights']"
    assert list((tmp_path / "making").iterdir()) == []


def test_the_least_recently_used_goes_first_and_what_is_in_use_stays(tmp_path: Path) -> None:
    holder = start(tmp_path, "a", "hold", size=400, limit=1000)
    assert holder.stdout is not None and holder.stdout.readline() == "['weights']\n"
    for key in ("b", "c"):
        finish(start(tmp_path, key, size=250, limit=1000))
    finish(start(tmp_path, "b", limit=1000))  # used again: now c is the oldest that nobody holds
    finish(start(tmp_path, "d", size=250, limit=1000))
    assert entries(tmp_path) == ["a", "b", "d"]
    finish(holder)
    finish(start(tmp_path, "e", size=500, limit=1000))
    assert "a" not in entries(tmp_path)
    assert made(tmp_path) == ["a", "b", "c", "d", "e"]


def test_what_is_in_use_stays_even_over_the_limit(tmp_path: Path) -> None:
    holder = start(tmp_path, "a", "hold", size=600, limit=1000)
    assert holder.stdout is not None and holder.stdout.readline() == "['weights']\n"
    finish(start(tmp_path, "b", size=600, limit=1000))
    assert entries(tmp_path) == ["a", "b"]
    finish(holder)


def test_what_is_not_of_the_cache_stays(tmp_path: Path) -> None:
    for own in (tmp_path / "models" / "mine", tmp_path / "making" / "half"):
        own.mkdir(parents=True)
        (own / "thesis").write_bytes(b"x" * 2000)
    (tmp_path / "models" / "uv.lock").write_text("version = 1\n")
    for key in ("a", "b"):
        finish(start(tmp_path, key, size=600, limit=1000))
    assert entries(tmp_path) == ["b", "mine"]
    assert (tmp_path / "making" / "half" / "thesis").exists() and (tmp_path / "models" / "uv.lock").exists()


def test_a_model_larger_than_the_whole_cache_is_refused(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "weights").write_bytes(b"x" * 2000)

    with pytest.raises(ConfigError, match=r"model\.cache_gb"):
        ModelCache(tmp_path, 1000 / GIB).take("big", make)
    assert entries(tmp_path) == []


def test_a_maker_that_fails_is_tried_again_by_the_next(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "part").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    cache = ModelCache(tmp_path)
    with pytest.raises(InfraError, match="No space left"):
        cache.take("model", fail)
    folder = cache.take("model", lambda folder: (folder / "weights").touch())
    assert [p.name for p in folder.iterdir()] == ["weights"]


def test_waiting_for_another_process_has_a_deadline(tmp_path: Path) -> None:
    victim = start(tmp_path, "model", "hang")
    assert victim.stdout is not None and victim.stdout.readline() == "making\n"
    with pytest.raises(InfraError, match="held model"):
        ModelCache(tmp_path, deadline=0.2).take("model", lambda folder: None)
    victim.kill()
    victim.wait(timeout=60)


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"model\.cache"):
        ModelCache(tmp_path / "file")


def locks(root: Path) -> list[str]:
    return sorted(p.name for p in (root / "models").glob("*.lock"))


def test_the_lock_of_an_entry_that_made_room_goes_with_it(tmp_path: Path) -> None:
    for key in ("a", "b"):
        finish(start(tmp_path, key, size=600, limit=1000))
    assert entries(tmp_path) == ["b"] and locks(tmp_path) == ["b.lock"]


def test_what_is_not_there_or_can_not_be_made_leaves_no_lock(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise InfraError("no answer")

    cache = ModelCache(tmp_path)
    assert not cache.held("model")
    with pytest.raises(InfraError, match="no answer"):
        cache.take("model", fail)
    assert locks(tmp_path) == []


def test_what_killed_processes_and_removed_folders_left_goes_when_the_next_entry_is_made(tmp_path: Path) -> None:
    victim, maker = (start(tmp_path, key, "hang") for key in ("killed", "being-made"))
    for process in (victim, maker):
        assert process.stdout is not None and process.stdout.readline() == "making\n"
    victim.kill()
    victim.wait(timeout=60)
    finish(start(tmp_path, "removed"))
    shutil.rmtree(tmp_path / "models" / "removed")
    finish(start(tmp_path, "model"))
    assert locks(tmp_path) == ["being-made.lock", "model.lock"]
    assert [p.name for p in (tmp_path / "making").iterdir()] == ["being-made"]
    maker.kill()
    maker.wait(timeout=60)


def test_a_lock_that_was_removed_between_opening_and_locking_it_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"

    def flock(file: IO[bytes], kind: int, own: Any = fcntl.flock) -> None:
        path.unlink()  # by the holder, who then closes it
        own(file, kind)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        assert file_lock.attempt(path) is None
    first = file_lock.attempt(path)
    assert first is not None and file_lock.attempt(path) is None and file_lock.attempt(path, shared=True) is None
    first.close()
    with_others = [file_lock.attempt(path, shared=True) for _ in range(2)]
    assert all(with_others) and file_lock.attempt(path) is None
