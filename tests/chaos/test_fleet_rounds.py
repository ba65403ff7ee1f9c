"""Whole real rounds with the tiny model on several Ray nodes, with and without faults: what is scored is the same."""

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from fleet_cluster import nodes
from ray.exceptions import RayError

from seal_ray import config_file
from seal_ray.config import Config
from seal_ray.events import ActorChanged, Event, TrialAgain, TrialDone
from seal_ray.loops.history import Round, Run
from seal_ray.loops.rounds import run_rounds
from seal_ray.loops.session import Session

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FAULTS = ("kill a worker", "kill a worker", "remove a node", "add a node", "kill a sampler")


class Faults:
    """Made where a session asks whether to stop: each is due after so many trials (for samplers: while they write)."""

    def __init__(self, cluster: Any, others: list[Any], faults: list[tuple[int, str]]) -> None:
        self.session: Session | None = None
        self.cluster, self.others, self.faults = cluster, others, faults
        self.seen: Counter[type] = Counter()
        self.made: list[str] = []

    def hear(self, event: Event) -> None:
        self.seen[type(event)] += 1

    def make(self) -> bool:
        for fault in list(self.faults):
            if self.seen[TrialDone] >= fault[0] and self._make(fault[1]):
                self.faults.remove(fault)
                self.made.append(fault[1])
        return False

    def _make(self, what: str) -> bool:
        """Whether it could be made by now."""
        if what == "add a node":
            self.others.append(self.cluster.add_node(num_cpus=2))
            return True
        if what == "remove a node":
            if len(self.others) < 2:
                return False
            self.cluster.remove_node(self.others.pop(), allow_graceful=False)
            return True
        assert self.session
        crew = self.session.crew
        group: Any = crew._pool if what == "kill a worker" else crew._samplers
        if group is None or not (busy := [m for m in group._group.members.values() if m.job]):
            return False
        try:
            sign: Any = ray.get(group._group._actors._actors[busy[0].name].ping.remote(), timeout=5)
        except (RayError, TimeoutError):
            return False
        os.kill(sign.pid, signal.SIGKILL)
        return True


def config_of(uri: Path, address: str) -> Config:
    changes = {
        "run.uri": uri,
        "run.rounds": 1,
        "placement.address": address,
        "placement.heartbeat": 1,
        "placement.max_workers": 2,
        "placement.samplers": 1,
        "placement.candidate_retries": 6,
        "storage.shared": "true",
        "inner.wave": 2,
        "observe.progress": "quiet",
    }
    return config_file.load(str(ROOT / "jobs/tiny.yaml"), [f"{k}={v}" for k, v in changes.items()])


def go(uri: Path, cluster: Any, others: list[Any], due: list[tuple[int, str]]) -> tuple[Round, Faults]:
    faults = Faults(cluster, others, due)
    config = config_of(uri, str(cluster.address))
    with Session(config, stop=faults.make, listeners=[faults.hear]) as session:
        faults.session = session
        run_rounds(session)
    return Run(str(uri)).round(1), faults


def scored(found: Round) -> dict[tuple[str, int, int], float]:
    """What each (task, slot, repeat) scored."""
    where = {c.id: (c.task, c.slot, c.repeat) for c in found.candidates}
    return {where[t.candidate]: sum(g.logprob for g in t.likelihoods) for t in found.trials if not t.failure}


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    before = Path.cwd()
    os.chdir(ROOT)  # the configuration names its data from there
    with nodes(2, 2, 2) as made:
        yield made
    os.chdir(before)


@pytest.fixture(scope="module")
def undisturbed(bench: Any, tmp_path_factory: pytest.TempPathFactory) -> Round:
    cluster, others = bench
    found, driver = go(tmp_path_factory.mktemp("runs") / "calm", cluster, others, [])
    assert not driver.seen[TrialAgain] and found.committed
    return found


@pytest.mark.parametrize("seed", range(4))
def test_faults_in_a_real_round_change_nothing_in_what_is_scored(
    bench: Any, undisturbed: Round, tmp_path: Path, seed: int
) -> None:
    cluster, others = bench
    chance = random.Random(seed)
    # one of them hits the samplers, while they write; the others come as trials come in
    faults = [(0, "kill a sampler"), *((chance.randint(1, 12), chance.choice(FAULTS[:4])) for _ in range(3))]
    print(f"schedule seed {seed}: {faults}")
    try:
        found, driver = go(tmp_path / "run", cluster, others, faults)
    finally:
        while len(others) < 3:
            others.append(cluster.add_node(num_cpus=2))
    print(driver.made)
    assert "kill a sampler" in driver.made and len(driver.made) >= 3
    assert found.committed
    expected, got = scored(undisturbed), scored(found)
    assert got.keys() == expected.keys()
    texts = {(e.task, e.slot): e.text for e in undisturbed.edits}
    same = {(e.task, e.slot) for e in found.edits if texts[(e.task, e.slot)] == e.text}
    assert same, "no edit is the same: nothing is compared"
    for key, value in expected.items():
        if key[1] < 0 or key[:2] in same:
            assert got[key] == pytest.approx(value, abs=1e-3), key
    lost = {e.role for e in Run(str(tmp_path / "run")).events() if isinstance(e, ActorChanged) and e.state == "dead"}
    assert "sampler" in lost
    assert "worker" in lost or "kill a worker" not in driver.made
