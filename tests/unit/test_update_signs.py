"""What takes an update long and is no step gives signs of life: the base that is loaded again, a checkpoint."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from test_update_actor import At

from seal_ray.config import PolicySection
from seal_ray.policy import checkpoints, signs_of_life, training, update_worker
from seal_ray.policy.checkpoints import Checkpoints
from seal_ray.policy.job import UpdateJob
from seal_ray.policy.update_actor import Desk
from seal_ray.policy.update_worker import Payload

FULL = PolicySection(mode="full", checkpoint_steps=2)


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A desk in this process; `waits` is for whatever goes on until it hears a sign of life."""
    monkeypatch.setattr(signs_of_life, "BEAT", 0.001)
    monkeypatch.setattr(ray, "get", lambda value: value)
    desk = Desk(str(tmp_path / "output"), str(tmp_path))
    desk.have_files(0)
    at: Any = At(desk)
    for name in ("tell", "digest", "keep", "kept", "drop_others", "news_are_in"):
        setattr(at, name, SimpleNamespace(remote=getattr(desk, name)))
    at.digest.remote = lambda tag: waits(at) and desk.digest(tag)
    return at


def waits(at: Any) -> bool:
    at.said.clear()
    return at.said.wait(30)


class Weights:
    """An engine that writes and reads its checkpoints for as long as nobody says that it lives."""

    rank, world, adapter_rank = 0, 1, 0

    def __init__(self, at: Any) -> None:
        self.at, self.heard = at, list[bool]()

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def write(self, folder: Path, tag: str) -> None:
        self.heard.append(waits(self.at))
        (folder / tag / "weights").write_bytes(b"of this step")

    def read(self, folder: Path, tag: str) -> None:
        self.heard.append(waits(self.at))

    def save(self, send: Callable[[str, str], None]) -> None:
        pass


def test_a_checkpoint_that_is_long_in_coming_and_going_is_no_hang(
    at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = Weights(at)
    kept = Checkpoints(engine, str(tmp_path), FULL, at)
    kept.after(1)
    assert not engine.heard and not at.said.is_set(), "there is nothing to write yet"
    kept.after(2)
    digest_of = checkpoints.digest_of
    monkeypatch.setattr(checkpoints, "digest_of", lambda folder: engine.heard.append(waits(at)) or digest_of(folder))
    assert kept.resume() == 2
    assert engine.heard == [True] * 3, "writing, hashing, reading"


@pytest.mark.parametrize(("section", "heard"), [(FULL, True), (PolicySection(), False)])
def test_the_base_that_is_loaded_again_for_its_drift_is_no_hang(
    section: PolicySection, heard: bool, at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Learned:
        def __init__(self, *_: Any) -> None:
            self.batches: list[Any] = []

        def scan(self, *_: Any) -> training.Scan:
            return training.Scan([[torch.zeros(1)]], 1.0)

        def run(self, *_: Any, first: int) -> None:
            pass

        def drift(self, *_: Any) -> float:
            at.said.clear()
            return float(at.said.wait(30 if heard else 0.1))

    monkeypatch.setattr(training, "Training", Learned)
    job = UpdateJob(str(tmp_path), (), section, 1, str(tmp_path / "output"))
    payload = Payload(job, (), (), None, str(tmp_path))
    assert update_worker._work(payload, at, lambda *_, **__: Weights(at), "cpu")["drift"] == heard  # type: ignore[arg-type,return-value]
