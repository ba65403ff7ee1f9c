"""The pool with played workers in virtual time: what is leased, what is lost, and what becomes of it."""

import random

import pytest
from fleet_simulation import Player, Simulation, Table, attempt, many, section, trials

from seal_ray.errors import ConfigError, DataError, PlacementError
from seal_ray.events import ActorChanged, TrialAgain, WaveDone
from seal_ray.fleet.actors import ActorReply
from seal_ray.fleet.pool import Pool
from seal_ray.fleet.wave_messages import WaveLease
from seal_ray.records import Attempt, Trial, Version


def test_every_candidate_gets_one_trial() -> None:
    table = Table(Simulation(), section())
    work = many()
    done = table.run(work)
    assert done.keys() == {a.candidate.id for a in work}
    assert not any(t.failure for t in done.values())
    assert sum(e.candidates for e in table.kinds(WaveDone)) == len(work)


def test_a_pool_without_a_version_says_so() -> None:
    simulation = Simulation()
    pool = Pool(simulation, section(), lambda e: None, simulation.clock)
    with pytest.raises(ConfigError, match="which version"):
        pool.poll(0)


def test_a_worker_that_dies_costs_nothing_but_time() -> None:
    simulation = Simulation(nodes={"a": 2})
    table = Table(simulation, section())
    simulation.at(5.5, lambda: simulation.crash("worker-1"))
    done = table.run(many())
    assert len(done) == len(many()) and not any(t.failure for t in done.values())
    assert [e.state for e in table.kinds(ActorChanged) if e.worker == "worker-1"][-1] == "dead"
    assert "worker-3" in simulation.players, "the lost worker was not replaced"


def test_a_node_that_goes_is_nobodys_fault() -> None:
    simulation = Simulation(nodes={"a": 2, "b": 2})
    table = Table(simulation, section(), wave=1)
    simulation.at(5.5, lambda: simulation.remove_node("b"))
    done = table.run(many())
    assert not any(t.failure for t in done.values())


def test_stragglers_are_leased_again_and_the_first_record_counts() -> None:
    slow = {"worker-1"}

    def behave(worker: str, lease: WaveLease, now: float) -> object:
        return "hang" if worker in slow and now > 3 else None

    simulation = Simulation(nodes={"a": 3}, behave=behave)
    table = Table(simulation, section(candidate_deadline=4000.0), wave=2)
    done = table.run(many(tasks=4), until=300)
    assert len(done) == 20 and not any(t.failure for t in done.values())


def test_a_late_trial_is_an_event_and_not_a_second_trial() -> None:
    simulation = Simulation(nodes={"a": 2}, seconds=lambda a: 30.0 if a.candidate.id == "t000-s0-r0" else 1.0)
    slow = simulation.seconds
    seen: list[str] = []

    def seconds(a: Attempt) -> float:
        if a.candidate.id == "t000-s0-r0":
            seen.append(a.candidate.id)
            return slow(a) if len(seen) == 1 else 1.0
        return 1.0

    simulation.seconds = seconds
    table = Table(simulation, section(candidate_deadline=1000.0), wave=1)
    table.run([attempt(0, s) for s in range(12)])
    assert len(seen) == 2, "the straggler was not leased again"
    while simulation.now < 60:
        table.pool.poll(1.0)
    assert [e.candidate for e in table.kinds(TrialAgain)] == ["t000-s0-r0"]


def test_a_trial_that_is_missing_from_a_wave_is_tried_again() -> None:
    dropped: list[str] = []

    def behave(worker: str, lease: WaveLease, now: float) -> object:
        found = trials(worker, lease)
        if not dropped:
            dropped.append(found[0].candidate)
            return found[1:]
        return None

    done = Table(Simulation(behave=behave), section()).run(many())
    assert dropped and len(done) == len(many()) and not any(t.failure for t in done.values())


def test_submitting_a_candidate_that_is_pending_changes_nothing() -> None:
    simulation = Simulation(nodes={"a": 1})
    table = Table(simulation, section())
    table.pool.submit(many(tasks=1))
    table.run(many(tasks=1))
    assert sum(len(ids) for _, _, ids in simulation.tried) == 5


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_to_workers_the_same_candidates_are_scored(seed: int) -> None:
    """Random crashes, nodes that go and come, stalls and drained nodes, all in virtual time."""
    chance = random.Random(seed)
    simulation = Simulation(nodes={"a": 2, "b": 2, "c": 2})
    table = Table(simulation, section(candidate_retries=6), wave=4)

    def crash() -> None:
        alive = [n for n, p in simulation.players.items() if not p.dead]
        if alive:
            simulation.crash(chance.choice(alive))

    def swap() -> None:
        node = chance.choice(["b", "c"])
        if node not in simulation.gone:
            simulation.remove_node(node)
            simulation.at(simulation.now + chance.uniform(1, 10), lambda: simulation.nodes.update({node + "2": 2}))

    def drain() -> None:
        simulation.gone.setdefault("c", "its node will be drained")
        simulation.nodes["c"] = 0

    for _ in range(6):
        simulation.at(chance.uniform(0.5, 60), chance.choice([crash, crash, swap, drain]))
    work = many(tasks=20)
    done = table.run(work)
    assert done.keys() == {a.candidate.id for a in work}
    assert not any(t.failure for t in done.values()), f"seed {seed}"


def test_what_was_found_is_handed_out_before_the_pool_stops() -> None:
    """A wave comes in at the moment at which the pool gives up: its trials are kept."""
    simulation = Simulation(nodes={"a": 1}, seconds=lambda a: 1.0)
    table = Table(simulation, section(worker_grace=5.0), wave=5)
    table.pool.submit(many(tasks=4))
    table.pool.flush()
    found: list[Trial] = []

    def drain() -> None:
        simulation.gone["a"] = "its node will be drained"
        simulation.nodes["a"] = 0

    simulation.at(1.5, drain)
    with pytest.raises(PlacementError, match="at least 1 are needed"):
        while simulation.now < 100:
            found += table.pool.poll(50.0)
    waves = sum(e.candidates for e in table.kinds(WaveDone))
    assert len(found) == waves > 0


def test_trials_that_come_with_bad_news_are_handed_out_first() -> None:
    class Late(Simulation):
        def _load_version(self, player: Player, ticket: int, version: Version, adapter: object) -> None:
            self.start_seconds = 1.0 if player.name == "worker-1" else 2.0
            self.start_error = None
            if player.name == "worker-2":
                self._later(2.0, lambda: ActorReply(ticket, error=DataError("no model")))
            else:
                super()._load_version(player, ticket, version, adapter)

    simulation = Late(nodes={"a": 2}, seconds=lambda a: 3.0)
    table = Table(simulation, section(), wave=1)
    table.pool.submit([attempt(0, 0), attempt(0, 1)])
    table.pool.flush()
    found: list[Trial] = []
    with pytest.raises(DataError, match="no model"):
        while simulation.now < 50:
            found += table.pool.poll(50.0)
    assert [t.candidate for t in found] == ["t000-s0-r0"]
