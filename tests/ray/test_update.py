"""The policy update with real Ray Train and DeepSpeed on CPU: the same result however it is cut or interrupted."""

import dataclasses
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from update_jobs import Sink, actors_left, job, likelihood, made_up_lessons, rooms_left

from seal_ray import models
from seal_ray.errors import DataError, InfraError, Interrupted, PlacementError
from seal_ray.events import Event, UpdateStep
from seal_ray.policy.job import UpdateResult
from seal_ray.policy.update import update


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[UpdateResult, Sink]:
    """One worker, ZeRO 2, an adapter: what the others are measured by."""
    sink = Sink()
    return update(job(tmp_path_factory.mktemp("one") / "version", epochs=30, schedule="constant"), sink=sink), sink


def test_an_update_trains_an_adapter_that_peft_loads_and_that_says_what_training_said(
    undisturbed: tuple[UpdateResult, Sink],
) -> None:
    result, sink = undisturbed
    assert result.kind == "adapter" and result.rank == 8 and result.attempts == 1
    assert result.steps == 90 == len(sink.steps()) and result.losses[-1] < result.losses[0] - 1
    lessons = made_up_lessons()
    model = models.load(job(Path("x")).base, dtype="float32", adapter=result.folder)
    assert likelihood(model, lessons) == pytest.approx(result.likelihood, abs=1e-4)
    with model.disable_adapter():
        assert likelihood(model, lessons) == pytest.approx(result.likelihood_before, abs=1e-4)
    assert min(after - before for after, before in zip(result.likelihood, result.likelihood_before, strict=True)) > 0.5
    assert result.kl > 0 and result.drift is not None and result.drift > 0


def test_nothing_is_left_running_and_nothing_half_written(undisturbed: tuple[UpdateResult, Sink]) -> None:
    result, sink = undisturbed
    assert sink.pids and not sink.alive()
    assert actors_left() == []
    folder = Path(result.folder)
    assert sorted(p.name for p in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_two_workers_of_which_one_is_killed_learn_the_same_as_one(
    undisturbed: tuple[UpdateResult, Sink], tmp_path: Path
) -> None:
    sink = Sink(kill=1, at=2)
    result = update(job(tmp_path / "version", workers=2, epochs=30, schedule="constant"), sink=sink)
    assert result.attempts == 2 and "starts again" in sink.warnings()[0]
    assert result.losses == pytest.approx(undisturbed[0].losses, abs=1e-3)
    assert result.likelihood == pytest.approx(undisturbed[0].likelihood, abs=2e-3)
    assert not sink.alive()


def test_one_worker_by_itself_and_under_deepspeed_learn_the_same(tmp_path: Path) -> None:
    alone = update(job(tmp_path / "alone", checkpointing=True), sink=Sink())
    group = update(job(tmp_path / "group", checkpointing=True, engine="deepspeed"), sink=Sink())
    assert (alone.environment["engine"], group.environment["engine"]) == ("torch", "deepspeed")
    assert alone.losses == pytest.approx(group.losses, abs=1e-5)
    assert [s.grad_norm for s in alone.log] == pytest.approx([s.grad_norm for s in group.log], rel=1e-5)
    assert alone.likelihood == pytest.approx(group.likelihood, abs=1e-5)
    assert alone.drift == pytest.approx(group.drift, abs=1e-6)


def test_a_worker_by_itself_that_is_killed_is_replaced(tmp_path: Path) -> None:
    sink = Sink(kill=0, at=2)
    result = update(job(tmp_path / "version", epochs=100), sink=sink)
    assert result.attempts == 2 and "starts again" in sink.warnings()[0]
    assert result.environment["engine"] == "torch" and result.steps == 300
    assert not sink.alive() and actors_left() == []


def test_what_can_not_be_learned_from_ends_the_update_without_a_second_attempt(tmp_path: Path) -> None:
    lessons = list(made_up_lessons(3))
    lessons[2] = dataclasses.replace(lessons[2], weight=math.nan)
    sink = Sink()
    with pytest.raises(DataError, match=r"step 1 .*edit e2 of task t2"):
        update(job(tmp_path / "version", lessons=tuple(lessons)), sink=sink)
    assert not any("starts again" in w for w in sink.warnings())
    assert list(tmp_path.iterdir()) == [] and not sink.alive()


def test_room_that_is_not_there_is_named_when_the_time_is_up(tmp_path: Path) -> None:
    with pytest.raises(PlacementError, match=r"3 x \(1 CPU\).*2 s"):
        update(job(tmp_path / "version", workers=3, worker_timeout=2), sink=Sink())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_update_that_is_broken_off_leaves_nothing_behind(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    sink = Sink()

    def stop(event: Event) -> None:
        sink(event)
        if isinstance(event, UpdateStep):
            raise Stopped

    with pytest.raises(Stopped):
        update(job(tmp_path / "version", workers=2, epochs=100), sink=stop)
    assert len(sink.pids) == 2 and not sink.alive()
    assert actors_left() == [] and list(tmp_path.iterdir()) == []
    assert rooms_left() == []


@pytest.mark.slow
def test_a_worker_that_hangs_ends_the_update_when_its_time_is_up(tmp_path: Path) -> None:
    sink = Sink(kill=1, at=2, by=signal.SIGSTOP)
    with pytest.raises(InfraError, match="no sign of life"):
        update(job(tmp_path / "version", workers=2, epochs=100, hang_timeout=15), sink=sink)
    assert not sink.alive() and list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 3])
def test_every_zero_stage_learns_the_same(undisturbed: tuple[UpdateResult, Sink], tmp_path: Path, stage: int) -> None:
    sink = Sink(kill=0, at=2)
    settings: dict[str, Any] = {"epochs": 30, "schedule": "constant", "zero_stage": stage}
    result = update(job(tmp_path / "version", workers=2, **settings), sink=sink)
    assert result.attempts == 2
    assert result.losses == pytest.approx(undisturbed[0].losses, abs=1e-3)
    assert result.likelihood == pytest.approx(undisturbed[0].likelihood, abs=2e-3)


@pytest.mark.slow
def test_the_optimiser_may_live_on_the_cpu(undisturbed: tuple[UpdateResult, Sink], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 30, "schedule": "constant", "offload": "cpu"}
    result = update(job(tmp_path / "version", workers=2, **settings), sink=Sink())
    assert result.losses == pytest.approx(undisturbed[0].losses, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_full_fine_tuning_goes_on_from_its_last_checkpoint(tmp_path: Path, stage: int) -> None:
    settings: dict[str, Any] = {"mode": "full", "epochs": 20, "schedule": "constant", "lr": 1e-3, "zero_stage": stage}
    whole = update(job(tmp_path / "whole", workers=1, **settings), sink=Sink())
    sink = Sink(kill=1, at=12)
    result = update(job(tmp_path / "killed", workers=2, checkpoint_steps=10, **settings), sink=sink)
    assert result.attempts == 2 and result.kind == "full" and result.steps == 60
    again = [n for i, n in enumerate(sink.steps()) if i and n <= sink.steps()[i - 1]]
    assert again and again[0] % 10 == 1 and again[0] > 1, "it began again instead of going on"
    assert result.losses == pytest.approx(whole.losses, abs=2e-3)
    model = models.load(result.folder, dtype="float32")
    assert likelihood(model, made_up_lessons()) == pytest.approx(result.likelihood, abs=1e-4)


@pytest.mark.slow
def test_an_adapter_is_trained_on_and_a_fresh_one_is_stacked_upon_it(
    undisturbed: tuple[UpdateResult, Sink], tmp_path: Path
) -> None:
    first = undisturbed[0]
    for fresh, rank in ((False, 8), (True, 16)):
        start = job(tmp_path / f"version-{fresh}", workers=2, fresh=fresh, zero_stage=3)
        result = update(dataclasses.replace(start, adapter=first.folder), sink=Sink())
        assert result.rank == rank
        assert result.likelihood_before == pytest.approx(first.likelihood, abs=1e-3)
        model = models.load(start.base, dtype="float32", adapter=result.folder)
        assert likelihood(model, made_up_lessons()) == pytest.approx(result.likelihood, abs=1e-3)


@pytest.mark.slow
def test_a_single_lesson_is_learned_by_one_worker_while_the_other_goes_along(tmp_path: Path) -> None:
    lessons = made_up_lessons(1)
    one = update(job(tmp_path / "one", lessons=lessons), sink=Sink())
    two = update(job(tmp_path / "two", workers=2, lessons=lessons, zero_stage=3), sink=Sink())
    assert one.steps == 2 and two.losses == pytest.approx(one.losses, abs=1e-4)


@pytest.mark.slow
def test_bfloat16_learns_alike_within_its_precision(tmp_path: Path) -> None:
    one = update(job(tmp_path / "one", dtype="bfloat16"), sink=Sink())
    two = update(job(tmp_path / "two", workers=2, dtype="bfloat16"), sink=Sink())
    assert two.losses == pytest.approx(one.losses, rel=0.02)


@pytest.mark.slow
def test_validation_losses_rest_on_edits_that_were_held_back(tmp_path: Path) -> None:
    result = update(job(tmp_path / "version", workers=2, validation=0.3), sink=Sink())
    assert len(result.held_back) == 2 and len(result.validation_losses) == 3
    assert not {e.edit for e in result.edits} & set(result.held_back)


def test_an_update_is_interrupted_in_the_middle_and_leaves_nothing(tmp_path: Path) -> None:
    sink = Sink()

    def tick() -> None:
        if sink.steps():
            raise Interrupted("asked to stop")

    with pytest.raises(Interrupted):
        update(job(tmp_path / "version", epochs=100, global_batch=1), sink=sink, tick=tick)
    assert len(sink.steps()) < 700 and not sink.alive() and actors_left() == []
    assert list(tmp_path.iterdir()) == []
