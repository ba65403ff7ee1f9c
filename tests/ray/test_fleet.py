"""The fleet on a real, local Ray: real workers and samplers with the tiny model, versions, leases, and what is left."""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from adapters import write_adapter
from ray.cloudpickle import register_pickle_by_value
from running_processes import runs

from seal_ray import models
from seal_ray.config import Config, ModelSection, PlacementSection
from seal_ray.errors import DataError, InfraError, PlacementError
from seal_ray.events import ActorChanged, Event, LeaseChanged, WaitingFor
from seal_ray.fleet import cluster
from seal_ray.fleet.actors import RayActors
from seal_ray.fleet.crew import Crew
from seal_ray.fleet.marked_processes import MARK, processes_of
from seal_ray.fleet.placement import plan_placement
from seal_ray.fleet.preflight import preflight
from seal_ray.fleet.reservations import Reservations
from seal_ray.fleet.resources_held import ResourcesHeld
from seal_ray.models.shared import materialise, share
from seal_ray.records import Ask, Attempt, Candidate, Example, Recipe, Trial, Version
from seal_ray.sampling.sampler import EditPrompt

register_pickle_by_value(sys.modules[__name__])  # actors can not import this file

RECIPE = Recipe(rank=4, epochs=2)
CONFIG = Config.model_validate(
    {
        "model": {"name": "builtin:tiny", "dtype": "float32", "max_length": 256},
        "placement": {"address": "local", "heartbeat": 2, "max_workers": 1},
        "inner": {"rank": 4, "epochs": 2},
        "policy": {"rank": 8},
        "sampling": {"kv_cache_gb": 0.1},
    }
)
BASE = Version(0, "v0", models.digest_of(models.fetch(CONFIG.model)))


@pytest.fixture(scope="module")
def folder() -> str:
    return models.fetch(CONFIG.model)


@pytest.fixture(scope="module", autouse=True)
def local() -> Iterator[str]:
    yield cluster.connect(CONFIG.placement)
    ray.shutdown()


@pytest.fixture(scope="module")
def crew(local: str, folder: str) -> Iterator[tuple[Crew, list[Event]]]:
    events: list[Event] = []
    made = Crew(CONFIG, folder, events.append)
    yield made, events
    made.close()


def attempts(folder: str, tasks: int = 2) -> list[Attempt]:
    ids = tuple(models.tokenizer(folder).encode("the old harbour of the city"))
    example = Example(ids, (True,) * len(ids))
    asks = (Ask("q", ids[:3], (ids[3:6],), 4),)
    made = []
    for task in range(tasks):
        for slot in (-1, 0, 1):
            kind, recipe = ("baseline", None) if slot < 0 else ("edit", RECIPE)
            candidate = Candidate(f"{task}/{slot}", f"task-{task}", kind, None, slot, 0, 7, recipe)  # type: ignore[arg-type]
            made.append(Attempt(candidate, (example,) * (slot + 2) if recipe else (), asks))
    return made


def run(crew: Crew, version: Version, adapter: str | None, work: list[Attempt], limit: float = 400) -> dict[str, Trial]:
    pool = crew.pool(version, adapter)
    pool.submit(work)
    pool.flush()
    until, found = time.monotonic() + limit, dict[str, Trial]()
    while pool.pending():
        assert time.monotonic() < until
        found |= {t.candidate: t for t in pool.poll(0.5)}
    return found


def likelihood(trial: Trial) -> float:
    assert trial.failure is None, trial.failure
    return sum(g.logprob for g in trial.likelihoods)


def test_a_crew_samples_and_tries_and_a_new_version_needs_no_new_actor(
    crew: tuple[Crew, list[Event]], folder: str, tmp_path: Path
) -> None:
    made, events = crew
    work = attempts(folder)
    before = run(made, BASE, None, work)
    assert before.keys() == {a.candidate.id for a in work}
    assert likelihood(before["0/0"]) == pytest.approx(likelihood(before["1/0"]), abs=1e-4)  # the same but for its name
    adapter = write_adapter(tmp_path / "adapter", 1)
    second = Version(1, "v1", BASE.base, parent="v0", kind="adapter", rank=4)
    after = run(made, second, adapter, work)
    assert abs(likelihood(after["0/-1"]) - likelihood(before["0/-1"])) > 0.1, "the new version is the old one"
    ids = work[0].asks[0].prompt_ids
    prompts = [EditPrompt("task-0", slot, ids, seed=slot, max_tokens=8) for slot in range(3)]
    samplers = made.samplers(second, adapter)
    samplers.submit("a", prompts)
    edits: list[Any] = []
    until = time.monotonic() + 400
    while samplers.pending():
        assert time.monotonic() < until
        edits += samplers.poll(0.5)
    assert [e.version for e in edits[0][1]] == ["v1"] * 3 and all(e.ids for e in edits[0][1])
    starts = [e.worker for e in events if isinstance(e, ActorChanged) and e.state == "starting"]
    assert set(starts) == {"worker-1", "sampler-1"}
    assert [e.worker for e in events if isinstance(e, ActorChanged) and e.log.endswith(".err")]


def test_released_roles_leave_no_process_and_give_their_share_back(crew: tuple[Crew, list[Event]], folder: str) -> None:
    made, events = crew
    run(made, BASE, None, attempts(folder, 1))
    mark = made.held.mark("worker")
    assert processes_of(mark, False)
    made.release("sampler", "worker")
    assert not processes_of(mark, False)
    made.close()  # until then the least stays reserved for the next phase
    total = sum(n.cpus for n in cluster.resources())
    until = time.monotonic() + 120
    while sum(n.free_cpus for n in cluster.resources()) < total:
        assert time.monotonic() < until, "what the roles held did not come back"
        time.sleep(0.1)
    assert [e.state for e in events if isinstance(e, LeaseChanged) and e.role == "worker"][-1] == "released"


def granted(actors: RayActors) -> None:
    """Wait until Ray lets one be started."""
    until = time.monotonic() + 120
    while not actors.want(1):
        assert time.monotonic() < until
        time.sleep(0.05)


class Parent:
    """An actor with a child that does not end with it."""

    def spawn(self) -> int:
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True).pid


def test_a_process_that_outlives_its_actor_is_found_and_ended() -> None:
    placement = plan_placement(PlacementSection(device="cpu", mode="colocated"), cluster.resources())
    held = ResourcesHeld(placement, lambda e: None)
    remote: Any = ray.remote
    actors = RayActors("worker", held, lambda name, o: remote(Parent).options(**o).remote())
    granted(actors)
    actors.start("worker-1")
    ticket = actors.call("worker-1", "spawn")
    reply = next(r for r in iter(lambda: (actors.replies(200) or [None])[0], None))
    assert reply.ticket == ticket and reply.error is None, reply.error
    child: int = reply.value
    actors.placed("worker-1", cluster.resources()[0].id)
    assert f"{MARK}={held.mark('worker')}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    held.release("worker", deadline=30)
    assert not runs(child), "the child is still alive"


class Shown:
    """An actor that shows with what it was started."""

    def environment(self) -> dict[str, str]:
        return dict(os.environ)


def test_who_computes_keeps_its_memory_and_lets_others_have_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "5")  # whoever submits a run may know better
    assert "MALLOC_TRIM_THRESHOLD_" not in cluster.environment()
    monkeypatch.undo()
    placement = plan_placement(PlacementSection(device="cpu", mode="colocated"), cluster.resources())
    held = ResourcesHeld(placement, lambda e: None)
    remote: Any = ray.remote
    actors = RayActors("worker", held, lambda name, o: remote(Shown).options(**o).remote())
    granted(actors)
    actors.start("worker-1")
    actors.call("worker-1", "environment")
    reply = next(r for r in iter(lambda: (actors.replies(200) or [None])[0], None))
    held.release("worker", deadline=30)
    assert reply.error is None, reply.error
    there: dict[str, str] = reply.value
    assert there["MALLOC_ARENA_MAX"] == "1" and int(there["MALLOC_TRIM_THRESHOLD_"]) > 2**30
    assert there["GOMP_SPINCOUNT"] == cluster.ENVIRONMENT["GOMP_SPINCOUNT"] and "OMP_WAIT_POLICY" not in there


@pytest.mark.parametrize("role", ["samplers", "trainers", "min_workers"])
def test_a_cluster_without_gpus_is_a_clear_error_at_the_deadline(role: str) -> None:
    section = PlacementSection.model_validate({"device": "gpu", role: 3})
    events: list[Event] = []
    with pytest.raises(PlacementError, match=r"of 1 GPU.*with no GPU and"):
        preflight(plan_placement(section, cluster.resources()), Reservations(), 2.0, events.append)
    assert {type(e) for e in events} == {WaitingFor}  # told again when what is free changes


def test_a_node_writes_a_versions_files_once_whoever_asks(tmp_path: Path) -> None:
    shared = share(write_adapter(tmp_path / "adapter", 2))
    assert shared is not None
    section = ModelSection(cache=str(tmp_path / "cache"))

    def ask() -> tuple[str, int]:
        folder = materialise(shared, section)
        return folder, os.stat(Path(folder) / "adapter_model.safetensors").st_ino

    remote: Any = ray.remote
    task = remote(num_cpus=0)(ask)
    found = set(ray.get([task.remote() for _ in range(4)], timeout=120))
    assert len(found) == 1
    written = Path(found.pop()[0])
    for file in (tmp_path / "adapter").iterdir():
        assert (written / file.name).read_bytes() == file.read_bytes()


def test_files_that_are_not_what_they_should_be_are_refused(tmp_path: Path) -> None:
    shared = share(write_adapter(tmp_path / "adapter", 3))
    assert shared is not None
    section = ModelSection(cache=str(tmp_path / "cache"))
    damaged = dataclasses.replace(shared, files={**shared.files, "adapter_model.safetensors": ray.put(b"other")})
    with pytest.raises(InfraError, match="arrived damaged"):
        materialise(damaged, section)
    with pytest.raises(DataError, match="do not belong"):
        materialise(dataclasses.replace(shared, digest="0" * 64), section)
    assert materialise(shared, section)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no weights"):
        share(str(tmp_path / "empty"))
