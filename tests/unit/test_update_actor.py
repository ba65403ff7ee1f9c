"""What the end of an attempt means: whose fault it was, and whether another attempt may help."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import ActorDiedError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError, WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError
from torch.distributed import DistBackendError

from seal_ray.errors import DataError, InfraError, PlacementError
from seal_ray.events import UpdateValidated
from seal_ray.policy import signs_of_life, update_worker
from seal_ray.policy.update_actor import Desk, Limits, TrainerCount, judge

CREW, LIMITS = TrainerCount(2, True, 4, {}), Limits(60, 60, 60)
CUBLAS = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
NCCL = "NCCL error in: NCCLUtils.cpp:77, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'"


def failed(*failures: Exception) -> WorkerGroupError:
    return WorkerGroupError("text", dict(enumerate(failures)))


@pytest.mark.parametrize(
    ("error", "kind", "again", "said"),
    [
        (failed(RuntimeError("gloo: Connection closed by peer"), ActorDiedError()), InfraError, True, "worker 1"),
        (failed(RuntimeError("[1] Connection reset by peer")), InfraError, True, "reset"),
        (failed(WorkerHealthCheckFailedError("no answer", ActorDiedError())), InfraError, True, "no answer"),
        (failed(ActorDiedError(), DataError("nan at edit x")), DataError, False, "nan at edit x"),
        (failed(torch.OutOfMemoryError("CUDA")), InfraError, False, "micro_batch_tokens"),
        (failed(torch.AcceleratorError("CUDA error: out of memory")), InfraError, False, "micro_batch_tokens"),
        (failed(RuntimeError(CUBLAS)), InfraError, False, "worker 0 of the policy update ran out of memory"),
        (failed(ActorDiedError(), DistBackendError(NCCL)), InfraError, False, "worker 1 of the policy"),
        (failed(DistBackendError(NCCL[:40])), InfraError, True, "NCCL error"),
        (failed(KeyError("weights")), InfraError, False, "KeyError"),
        (ControllerError(WorkerGroupStartupTimeoutError(2)), PlacementError, False, r"2 x (1 GPU and 4 CPU)"),
        (ControllerError(RuntimeError("odd")), InfraError, True, "odd"),
        (ValueError("before it began"), InfraError, False, "before it began"),
    ],
)
def test_an_attempt_is_repeated_only_where_that_may_help(error: Exception, kind: type, again: bool, said: str) -> None:
    found = judge(error, CREW, LIMITS)
    assert type(found.error) is kind and found.again is again
    assert said in str(found.error)


def test_files_arrive_in_pieces_and_only_in_their_folder(tmp_path) -> None:
    desk = Desk(str(tmp_path))
    desk.write("weights", 0, b"abcd")
    desk.write("weights", 4, b"ef")
    desk.write("../outside", 0, b"x")
    assert (tmp_path / "weights").read_bytes() == b"abcdef"
    assert not (tmp_path.parent / "outside").exists()


def test_news_are_told_once_and_are_signs_of_life() -> None:
    desk = Desk("nowhere")
    assert desk.news().started is False
    desk.tell(UpdateValidated(1, 2.0))
    news = desk.news()
    assert [type(e) for e in news.events] == [UpdateValidated] and news.events[0].time > 0 and news.started
    assert desk.news().events == []


class At:
    """A desk as its workers call it, in this process. `alive`: set by each sign of life."""

    def __init__(self, desk: Desk) -> None:
        self.said = threading.Event()
        self.alive = SimpleNamespace(remote=self.said.set)
        self.have_files = SimpleNamespace(remote=desk.have_files)


def test_a_worker_that_still_fetches_says_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs_of_life, "BEAT", 0.001)
    at = At(Desk(str(tmp_path)))
    with signs_of_life.signs_of_life(at):
        assert at.said.wait(60)
        (beating,) = (t for t in threading.enumerate() if t.name == "signs-of-life")
    beating.join(60)
    assert not beating.is_alive(), "what hangs later must be noticed"


def test_no_worker_goes_on_before_all_have_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(str(tmp_path))
    at: Any = At(desk)
    waited: list[float] = []

    def nap(seconds: float) -> None:
        waited.append(seconds)
        desk.have_files(1)

    monkeypatch.setattr(ray, "get", lambda value: value)
    monkeypatch.setattr(update_worker.time, "sleep", nap)
    update_worker._await_others(at, 0, 2)
    assert len(waited) == 1
    monkeypatch.setattr(update_worker, "FETCH_SECONDS", -1.0)
    with pytest.raises(InfraError, match="1 of 3 workers of the policy update still fetch"):
        update_worker._await_others(at, 0, 3)
