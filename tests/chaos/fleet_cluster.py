"""Several Ray nodes on one machine, and workers that sleep instead of computing; the fleet around them is real."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.cloudpickle import register_pickle_by_value
from ray.cluster_utils import Cluster
from ray.exceptions import RayError

from seal_ray.config import PlacementSection
from seal_ray.errors import InfraError
from seal_ray.events import Event
from seal_ray.fleet import cluster
from seal_ray.fleet.actor_health import Sign
from seal_ray.fleet.actors import RayActors
from seal_ray.fleet.placement import plan_placement
from seal_ray.fleet.pool import Pool
from seal_ray.fleet.resources_held import ResourcesHeld
from seal_ray.fleet.wave_messages import WaveLease
from seal_ray.fleet.worker import answering_class, sign, stacks
from seal_ray.records import Attempt, Candidate, Example, Likelihood, Recipe, Trial, Version

VERSION = Version(0, "v0", "base")
SPEC = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 2,
}


register_pickle_by_value(sys.modules[__name__])  # workers can not import this file


class SleepingWorker:
    """Sleeps for as long as an attempt's examples say; its task's name may make it die, hang or run out of memory."""

    def __init__(self, name: str) -> None:
        self._name, self._version = name, ""
        self._lease: int | None = None

    def load_version(self, version: Version, files: Any = None) -> str:
        self._version = version.digest
        return version.digest

    def try_wave(self, lease: WaveLease) -> list[Trial]:
        if lease.version != self._version:
            raise InfraError("another version")
        self._lease = lease.id
        out = []
        for attempt in lease.attempts:
            if attempt.candidate.task.startswith("kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            if attempt.candidate.task.startswith("hang"):
                time.sleep(3600)
            if attempt.candidate.task.startswith("oom"):
                raise MemoryError("no more")
            time.sleep(len(attempt.examples) / 100)
            worth = -float(attempt.candidate.seed % 97) / 10
            out.append(
                Trial(
                    attempt.candidate.id,
                    attempt.candidate.task,
                    likelihoods=(Likelihood("q", 0, worth, 1),),
                    worker=self._name,
                )
            )
        self._lease = None
        return out

    def ping(self) -> Sign:
        return sign(self._version, self._lease)

    def stacks(self) -> str:
        return stacks()


def attempts(tasks: int, slots: int, seed: int = 0, prefix: str = "task") -> list[Attempt]:
    """Candidates that take 10 to 400 ms."""
    chance = random.Random(seed)
    out = []
    for task in range(tasks):
        for slot in range(slots):
            texts = chance.randint(1, 40)
            candidate = Candidate(
                f"{prefix}{task}-{slot}", f"{prefix}{task}", "edit", None, slot, 0, chance.randrange(2**31), Recipe()
            )
            out.append(Attempt(candidate, (Example((1, 2), (True, True)),) * texts, ()))
    return out


@contextmanager
def nodes(*cpus: int) -> Iterator[tuple[Cluster, list[Any]]]:
    """A cluster with a head that has no CPU and one node for each number."""
    assert not ray.is_initialized(), "this process has joined another cluster, and would stay there"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": SPEC})
    try:
        others = [made.add_node(num_cpus=n) for n in cpus]
        cluster.connect(PlacementSection(address=str(made.address)))
        yield made, others
    finally:
        ray.shutdown()
        made.shutdown()


class Fleet:
    """A pool of sleeping workers on the cluster that is connected."""

    def __init__(self, wave: int = 4, **changes: Any) -> None:
        base: dict[str, Any] = {
            "device": "cpu",
            "mode": "colocated",
            "heartbeat": 0.5,
            "candidate_deadline": 60.0,
            "worker_grace": 30.0,
            "deadline": 120.0,
            "wave_wait": 0.2,
            "candidate_retries": 6,
        }
        self.section = PlacementSection(**{**base, **changes})
        self.events: list[Event] = []
        placement = plan_placement(self.section, cluster.resources())
        self.held = ResourcesHeld(placement, self.events.append)
        made = answering_class(SleepingWorker)
        self.actors = RayActors("worker", self.held, lambda name, o: made.options(**o).remote(name))
        self.pool = Pool(self.actors, self.section, self.events.append, wave=wave)
        self.pool.version(VERSION)

    def begin(self, work: list[Attempt]) -> None:
        self.pool.submit(work)
        self.pool.flush()

    def alive(self) -> int:
        return sum(m.health.state == "healthy" for m in self.pool._group.members.values())

    def run(self, work: list[Attempt], *, limit: float, often: Callable[[int], None] = lambda n: None) -> Any:
        """All trials; `often` is called between polls with the number of those that are there."""
        began = time.monotonic()
        self.begin(work)
        done: dict[str, Trial] = {}
        while self.pool.pending():
            assert time.monotonic() - began < limit, f"{self.pool.pending()} are still pending after {limit} s"
            often(len(done))
            for trial in self.pool.poll(0.1):
                assert trial.candidate not in done
                done[trial.candidate] = trial
        return done

    def pids(self) -> dict[str, int]:
        """Process ids of the workers that answer."""
        found = {}
        for name, actor in list(self.actors._actors.items()):
            try:
                given: Any = ray.get(actor.ping.remote(), timeout=2)
                found[name] = given.pid
            except (RayError, TimeoutError):
                continue
        return found

    def close(self) -> None:
        self.pool.close()
        self.held.close()
