"""The pool's workers as they come and go, in virtual time: asked for, silent, drained, let go."""

from itertools import groupby

import pytest
from fleet_simulation import Player, Simulation, Table, attempt, many, section

from seal_ray.errors import DataError, InfraError, PlacementError
from seal_ray.events import ActorChanged, WaitingFor
from seal_ray.fleet.actor_health import Sign
from seal_ray.fleet.actors import ActorReply
from seal_ray.fleet.wave_messages import Lost, WaveLease
from seal_ray.records import Version


def test_a_silent_worker_gets_no_work_and_its_wave_is_done_elsewhere() -> None:
    simulation = Simulation(nodes={"a": 2})

    def behave(worker: str, lease: WaveLease, now: float) -> object:
        if worker == "worker-1":
            simulation.players["worker-1"].mute = True
            return "hang"
        return None

    simulation.behave = behave
    table = Table(simulation, section(candidate_deadline=4000.0))
    done = table.run(many(), until=200)
    assert len(done) == len(many()) and not any(t.failure for t in done.values())
    states = [e.state for e in table.kinds(ActorChanged) if e.worker == "worker-1"]
    assert states[-2:] == ["suspect", "dead"]


class Stalling(Simulation):
    """Workers that answer no ping before a time, and slowly afterwards, as one does whose wave leaves it no room."""

    stalled = (0.0, 0.0)

    def _ping(self, player: Player, ticket: int) -> None:
        begin, end = self.stalled
        wait = max(0.0, end - self.now) if self.now >= begin else 0.0

        def answer() -> ActorReply:
            return ActorReply(ticket, Sign(player.version, player.lease, node=player.node))

        self._later(wait + 0.5, answer, player)


def test_the_only_worker_that_stalls_for_a_moment_ends_its_wave() -> None:
    simulation = Stalling(nodes={"a": 1}, seconds=lambda attempt: 50.0)
    simulation.stalled = (5.0, 10.0)
    table = Table(simulation, section(candidate_deadline=300.0, worker_grace=20.0), wave=1)
    done = table.run([attempt(0, 0), attempt(1, 0)])
    assert len(done) == 2 and len(simulation.tried) == 2 and set(simulation.players) == {"worker-1"}
    states = [state for state, _ in groupby(e.state for e in table.kinds(ActorChanged))]
    assert states == ["starting", "healthy", "suspect", "healthy"]


class Losing(Simulation):
    """What the first worker is called for is lost on the way back; it goes on with it."""

    def _try_wave(self, player: Player, ticket: int, lease: WaveLease) -> None:
        super()._try_wave(player, ticket, lease)
        if player.name == "worker-1":
            self._later(1.0, lambda: ActorReply(ticket, error=Lost("unreachable", "the network")))


def test_a_worker_that_never_ends_what_was_given_up_is_replaced() -> None:
    simulation = Losing(nodes={"a": 1})
    simulation.behave = lambda worker, lease, now: "hang" if worker == "worker-1" else None
    table = Table(simulation, section(candidate_deadline=40.0, worker_grace=20.0))
    done = table.run(many(tasks=1))
    assert len(done) == 5 and not any(t.failure for t in done.values())
    ends = [e.reason for e in table.kinds(ActorChanged) if e.worker == "worker-1" and e.state == "dead"]
    assert ends == ["answers, but does not end what was given up"] and 40 < simulation.now < 60


def test_a_worker_that_comes_back_with_another_version_loads_the_right_one_first() -> None:
    simulation = Simulation(nodes={"a": 1})
    calls: list[str] = []

    def behave(worker: str, lease: WaveLease, now: float) -> object:
        calls.append(simulation.players[worker].version)
        if len(calls) == 1:
            simulation.players[worker].version = "something else"
            return Lost("unreachable", "the network")
        return None

    simulation.behave = behave
    table = Table(simulation, section())
    done = table.run(many(tasks=1))
    assert len(done) == 5 and set(calls) == {"v0"}
    states = [e.state for e in table.kinds(ActorChanged) if e.worker == "worker-1"]
    assert states[-3:] == ["suspect", "starting", "healthy"]


def test_workers_are_added_while_a_round_runs_and_let_go_when_their_node_drains() -> None:
    simulation = Simulation(nodes={"a": 1})
    table = Table(simulation, section(), wave=2)
    simulation.at(10, lambda: simulation.nodes.update(b=3))
    simulation.at(20, lambda: simulation.gone.update(a="its node will be drained"))
    simulation.at(20, lambda: simulation.nodes.update(a=0))
    done = table.run(many(tasks=20))
    assert len(done) == 100 and not any(t.failure for t in done.values())
    assert {w for _, w, _ in simulation.tried} == {"worker-1", "worker-2", "worker-3", "worker-4"}
    assert max(t for t, w, _ in simulation.tried if w == "worker-1") < 23
    states = [e.state for e in table.kinds(ActorChanged) if e.worker == "worker-1"]
    assert states[-2:] == ["leaving", "dead"]


def test_max_workers_is_kept() -> None:
    simulation = Simulation(nodes={"a": 50})
    Table(simulation, section(max_workers=3)).run(many())
    assert len(simulation.players) == 3


def test_without_room_for_the_least_workers_it_stops_and_names_what_is_missing() -> None:
    simulation = Simulation(nodes={"a": 0})
    table = Table(simulation, section(worker_grace=20.0))
    with pytest.raises(PlacementError, match="at least 1 are needed: the cluster has no room for 1 worker of 1 GPU"):
        table.run(many())
    assert 19 < simulation.now < 25
    assert table.kinds(WaitingFor)


def test_workers_that_do_not_start_stop_the_run_with_their_reason() -> None:
    table = Table(Simulation(start_error=InfraError("no driver on this node")), section())
    with pytest.raises(InfraError, match=r"did not start.*no driver on this node"):
        table.run(many())


def test_a_model_that_takes_long_to_come_is_no_failure_to_start() -> None:
    limits = section(deadline=60.0)
    table = Table(Simulation(nodes={"a": 1}, fetch_seconds=1200.0), limits)
    assert len(table.run(many())) == len(many())
    assert len(table.simulation.players) == 1, "it was killed while it fetched"
    told = [(e.state, e.reason) for e in table.kinds(ActorChanged)]
    assert told.count(("starting", "fetches its files")) == 1
    slow = Table(Simulation(nodes={"a": 1}, start_seconds=1200.0), limits)
    with pytest.raises(InfraError, match="did not start within 60 s"):
        slow.run(many())


def test_files_that_never_come_end_the_run() -> None:
    table = Table(Simulation(nodes={"a": 1}, fetch_seconds=1e6), section())
    with pytest.raises(InfraError, match="fetched for 3600 s"):
        table.run(many(), until=20_000)


def test_a_model_that_can_not_be_loaded_is_told_at_once() -> None:
    table = Table(Simulation(start_error=DataError("builtin:none is no model")), section())
    with pytest.raises(DataError, match="no model"):
        table.run(many())


def test_a_new_version_is_loaded_before_the_next_wave() -> None:
    simulation = Simulation(nodes={"a": 2})
    seen: list[tuple[str, str]] = []
    simulation.behave = lambda worker, lease, now: seen.append((simulation.players[worker].version, lease.version))
    table = Table(simulation, section())
    table.run(many(tasks=2))
    table.pool.version(Version(1, "v1", "base", kind="adapter"), "adapter")
    table.run([attempt(t, 0, repeat=1) for t in range(8)])
    assert set(seen) == {("v0", "v0"), ("v1", "v1")}
    assert len(simulation.players) == 2


def test_closing_lets_every_worker_go() -> None:
    simulation = Simulation()
    table = Table(simulation, section())
    table.pool.submit(many())
    table.pool.poll(2)
    table.pool.close()
    assert all(p.dead for p in simulation.players.values())
    assert table.pool.pending() == 0


def test_the_share_of_time_that_each_worker_worked_is_told() -> None:
    table = Table(Simulation(nodes={"a": 1}, seconds=lambda a: 2.0, start_seconds=10.0), section())
    table.run(many(tasks=2))
    table.pool.close()
    last = table.kinds(ActorChanged)[-1]
    assert last.busy == pytest.approx(20.0, abs=0.5) and last.alive == pytest.approx(30.0, abs=2)


def test_a_version_that_comes_while_waves_are_out_is_loaded_after_them() -> None:
    simulation = Simulation(nodes={"a": 2}, seconds=lambda a: 5.0)
    table = Table(simulation, section(), wave=1)
    table.pool.submit([attempt(0, 0)])
    table.pool.flush()
    while not simulation.tried:
        table.pool.poll(0.1)
    table.pool.version(Version(1, "v1", "base", kind="adapter"), "adapter")
    done = table.run([attempt(t, 0, repeat=1) for t in range(6)])
    assert len(done) == 7 and {p.version for p in simulation.players.values()} == {"v1"}


def test_as_many_workers_are_asked_for_as_there_is_work_for() -> None:
    simulation = Simulation(nodes={"a": 0})
    table = Table(simulation, section(worker_grace=1000.0), wave=4)
    table.pool.submit([attempt(t, 0) for t in range(10)])
    table.pool.poll(5.0)
    assert simulation.wanted[-1] == 3 and not simulation.players
    table.pool.submit([attempt(t, 1) for t in range(10)])
    table.pool.poll(5.0)
    assert simulation.wanted[-1] == 5
    simulation.nodes["a"] = 4
    table.pool.flush()
    while table.pool.pending():
        table.pool.poll(1.0)
    table.pool.poll(5.0)
    assert len(simulation.players) == 4 and simulation.wanted[-1] <= 4, "more is asked for than there is work for"


def test_no_more_workers_are_asked_for_than_the_configuration_allows() -> None:
    simulation = Simulation(nodes={"a": 0})
    table = Table(simulation, section(max_workers=2, worker_grace=1000.0), wave=1)
    table.pool.submit(many())
    table.pool.poll(5.0)
    assert max(simulation.wanted) == 2


def test_the_last_worker_that_is_lost_is_asked_for_again() -> None:
    simulation = Simulation(nodes={"a": 1})
    table = Table(simulation, section(worker_grace=500.0), wave=1)
    simulation.at(5.5, lambda: simulation.remove_node("a"))
    simulation.at(100, lambda: simulation.nodes.update(b=1))
    done = table.run(many(tasks=2))
    assert len(done) == 10 and not any(t.failure for t in done.values())
    assert simulation.players["worker-2"].node == "b" and min(simulation.wanted) >= 1


def test_workers_without_work_are_given_back_down_to_the_least() -> None:
    simulation = Simulation(nodes={"a": 4})
    table = Table(simulation, section(), wave=1)
    table.run(many())
    while simulation.now < 200:
        table.pool.poll(5.0)
    assert sum(not p.dead for p in simulation.players.values()) == 1
    assert {e.reason for e in table.kinds(ActorChanged) if e.state == "leaving"} == {"there is no work for it"}
    before = simulation.now
    done = table.run(many(tasks=12, slots=6))
    assert len(done) == 84 and sum(not p.dead for p in simulation.players.values()) > 1
    assert simulation.now > before


def test_places_that_others_wait_for_are_given_up_between_two_waves_and_no_more() -> None:
    simulation = Simulation(nodes={"a": 4}, seconds=lambda attempt: 3.0)  # a wave outlasts several looks at the shares
    table = Table(simulation, section(), wave=2)

    def claim() -> None:
        simulation.share = simulation.nodes["a"] = 2

    simulation.at(6, claim)
    done = table.run(many(tasks=12))
    assert not any(t.failure for t in done.values())
    tried = [i for _, _, ids in simulation.tried for i in ids]
    assert len(tried) == len(set(tried)), "a wave was given up half done"
    gone = [e.worker for e in table.kinds(ActorChanged) if e.reason == "gives its place to another run"]
    assert len(gone) == 2
