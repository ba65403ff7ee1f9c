"""The pool with played workers in virtual time: what is leased, what is lost, and what becomes of it."""

import random

import pytest
from fleet_simulation import VERSION, Player, Simulation, Table, attempt, section, trials

from seal_ray.errors import ConfigError, DataError, InfraError, PlacementError
from seal_ray.events import ActorChanged, TrialAgain, WaitingFor, Warned, WaveDone
from seal_ray.fleet.actors import ActorReply
from seal_ray.fleet.pool import Pool
from seal_ray.fleet.wave_messages import Lost, OutOfMemory, WaveLease
from seal_ray.records import Attempt, Failure, Trial, Version


def many(tasks: int = 6, slots: int = 4) -> list[Attempt]:
    return [attempt(t, s, texts=2 + (t * 7 + s * 3) % 11) for t in range(tasks) for s in range(-1, slots)]


def killer(victim: str, error: BaseException | str):
    return lambda worker, lease, now: error if victim in {a.candidate.id for a in lease.attempts} else None


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


def test_a_wave_that_is_not_full_waits_only_so_long() -> None:
    simulation = Simulation()
    table = Table(simulation, section(wave_wait=3.0))
    table.pool.submit([attempt(0, 0)])
    while simulation.now < 2.5:
        table.pool.poll(0.1)
    assert not simulation.tried
    while simulation.now < 4:
        table.pool.poll(0.1)
    assert len(simulation.tried) == 1


def test_a_full_wave_does_not_wait() -> None:
    simulation = Simulation(nodes={"a": 1})
    table = Table(simulation, section(wave_wait=1000.0))
    table.pool.submit([attempt(0, s) for s in range(4)])
    while simulation.now < 2:
        table.pool.poll(0.1)
    assert [len(ids) for _, _, ids in simulation.tried] == [4]


def test_waves_hold_candidates_of_like_step_counts() -> None:
    simulation = Simulation(nodes={"a": 1})
    table = Table(simulation, section(window=8), wave=4)
    work = [attempt(t, s, texts=[3, 30][s % 2]) for t in range(4) for s in range(4)]
    steps = {a.candidate.id: a.steps for a in work}
    table.run(work)
    for _, _, ids in simulation.tried:
        assert len({steps[i] for i in ids}) == 1


def test_waves_come_from_a_window_of_tasks() -> None:
    simulation = Simulation(nodes={"a": 1})
    table = Table(simulation, section(window=2), wave=3)
    table.run([attempt(t, s, texts=1 + (t * 5 + s) % 7) for t in range(10) for s in range(6)])
    last: dict[str, int] = {}
    first: dict[str, int] = {}
    for number, (_, _, ids) in enumerate(simulation.tried):
        for identity in ids:
            first.setdefault(identity[:4], number)
            last[identity[:4]] = number
    tasks = sorted(first)
    # a task begins only when all but one of those before it are done
    for i, task in enumerate(tasks[2:], 2):
        assert first[task] >= sorted(last[t] for t in tasks[:i])[i - 2]


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


def test_losses_are_bounded_and_end_as_a_failure_that_is_not_the_candidates_own() -> None:
    simulation = Simulation(behave=killer("t000-s0-r0", Lost("node", "its node is gone")))
    done = Table(simulation, section(candidate_retries=2)).run(many())
    failed = {i: t.failure for i, t in done.items() if t.failure}
    assert failed["t000-s0-r0"].kind == "lost" and failed["t000-s0-r0"].blame == "infra"
    assert sum("t000-s0-r0" in ids for _, _, ids in simulation.tried) == 3


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Lost("killed_worker", "SIGKILL"), "killed_worker"),
        (Lost("out_of_memory", "the node ran out of memory"), "out_of_memory"),
        (OutOfMemory("CUDA out of memory"), "out_of_memory"),
        (DataError("a label outside the vocabulary"), "error"),
        ("hang", "deadline"),
    ],
)
def test_a_candidate_that_brings_down_its_wave_is_found_and_all_others_are_scored(
    error: BaseException | str, kind: str
) -> None:
    simulation = Simulation(behave=killer("t002-s1-r0", error))
    table = Table(simulation, section())
    done = table.run(many())
    failed = {i: t.failure for i, t in done.items() if t.failure}
    assert failed.keys() == {"t002-s1-r0"}
    assert failed["t002-s1-r0"].kind == kind and failed["t002-s1-r0"].blame == "data"
    alone = [ids for _, _, ids in simulation.tried if ids == ("t002-s1-r0",)]
    assert len(alone) == (1 if kind == "error" else 2), "it must be tried alone before it is told to be the one"
    if kind == "deadline":
        assert any("in a wave" in e.message for e in table.kinds(Warned)), "no stacks were told"


def test_two_killers_in_one_wave_are_both_found() -> None:
    bad = {"t000-s1-r0", "t001-s2-r0"}
    simulation = Simulation(
        behave=lambda w, lease, now: (
            Lost("killed_worker", "SIGSEGV") if bad & {a.candidate.id for a in lease.attempts} else None
        )
    )
    done = Table(simulation, section(), wave=16).run(many())
    assert {i for i, t in done.items() if t.failure} == bad


def test_a_worker_that_dies_twice_by_chance_does_not_cost_a_candidate() -> None:
    """The same wave is struck twice by outside hands; its candidates are split and each is scored."""
    struck = []

    def behave(worker: str, lease: WaveLease, now: float) -> object:
        if "t000-s0-r0" in {a.candidate.id for a in lease.attempts} and len(struck) < 2:
            struck.append(lease.id)
            return Lost("killed_worker", "SIGKILL")
        return None

    done = Table(Simulation(behave=behave), section(), wave=8).run(many())
    assert len(struck) == 2 and not any(t.failure for t in done.values())


def test_a_hanging_candidate_ends_within_its_bound() -> None:
    simulation = Simulation(behave=killer("t000-s0-r0", "hang"))
    done = Table(simulation, section(candidate_deadline=20.0), wave=1).run([attempt(0, 0)])
    assert done["t000-s0-r0"].failure and done["t000-s0-r0"].failure.kind == "deadline"
    assert simulation.now < 2 * (20 + 5) + 10


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


def test_a_failure_inside_a_trial_is_handed_on_and_an_infra_one_is_tried_again() -> None:
    count = {"t000-s1-r0": 0}

    def behave(worker: str, lease: WaveLease, now: float) -> object:
        out = []
        for trial in trials(worker, lease):
            failure = None
            if trial.candidate == "t000-s0-r0":
                failure = Failure("nan_loss", "the loss is no number")
            if trial.candidate == "t000-s1-r0" and not count[trial.candidate]:
                count[trial.candidate] += 1
                failure = Failure("lost", "a hiccup", "infra")
            out.append(Trial(trial.candidate, trial.task, failure=failure))
        return out

    done = Table(Simulation(behave=behave), section()).run(many())
    assert {i: t.failure.kind for i, t in done.items() if t.failure} == {"t000-s0-r0": "nan_loss"}


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


def test_a_worker_whose_waves_fail_by_its_own_account_is_replaced() -> None:
    simulation = Simulation(nodes={"a": 2})
    simulation.behave = lambda w, lease, now: InfraError("CUDA error") if w == "worker-1" else None
    done = Table(simulation, section(candidate_retries=5), wave=2).run(many())
    assert not any(t.failure for t in done.values())
    assert simulation.players["worker-1"].dead and "worker-3" in simulation.players


def test_room_shrinks_as_candidates_wait_and_grows_with_the_workers() -> None:
    simulation = Simulation(nodes={"a": 4})
    table = Table(simulation, section(), wave=4)
    assert table.pool.room() == 2 * 4, "the least is there at once"
    table.pool.expect(1000)
    while simulation.now < 3:
        table.pool.poll(0.5)
    before = table.pool.room()
    assert before == 2 * 4 * 4
    table.pool.submit(many(tasks=2))
    assert table.pool.room() == before - 10
    table.pool.submit(many(tasks=50)[10:])
    assert table.pool.room() == 0


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


def test_closing_lets_every_worker_go() -> None:
    simulation = Simulation()
    table = Table(simulation, section())
    table.pool.submit(many())
    table.pool.poll(2)
    table.pool.close()
    assert all(p.dead for p in simulation.players.values())
    assert table.pool.pending() == 0


def test_the_version_of_the_lease_is_the_pools() -> None:
    simulation = Simulation()
    leases: list[str] = []
    simulation.behave = lambda w, lease, now: leases.append(lease.version)
    Table(simulation, section()).run(many(tasks=1))
    assert set(leases) == {VERSION.digest}


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


def test_a_candidate_that_breaks_the_device_is_found_and_not_taken_for_its_neighbours_fault() -> None:
    simulation = Simulation(behave=killer("t002-s1-r0", InfraError("CUDA error: device-side assert")))
    done = Table(simulation, section(), wave=8).run(many())
    failed = {i: t.failure for i, t in done.items() if t.failure}
    assert failed.keys() == {"t002-s1-r0"}
    assert failed["t002-s1-r0"].kind == "lost" and failed["t002-s1-r0"].blame == "infra"


def test_waves_stay_large_after_one_candidate_ran_out_of_memory() -> None:
    simulation = Simulation(nodes={"a": 1}, behave=killer("t000-s0-r0", OutOfMemory("no more")))
    table = Table(simulation, section(), wave=8)
    table.run(many(tasks=2))
    simulation.tried.clear()
    table.run([attempt(t, s, repeat=1) for t in range(4) for s in range(4)])
    assert max(len(ids) for _, _, ids in simulation.tried) == 8


def test_the_share_of_time_that_each_worker_worked_is_told() -> None:
    table = Table(Simulation(nodes={"a": 1}, seconds=lambda a: 2.0, start_seconds=10.0), section())
    table.run(many(tasks=2))
    table.pool.close()
    last = table.kinds(ActorChanged)[-1]
    assert last.busy == pytest.approx(20.0, abs=0.5) and last.alive == pytest.approx(30.0, abs=2)


def test_a_candidate_whose_nodes_die_under_it_is_not_taken_for_a_killer() -> None:
    simulation = Simulation(nodes={"a": 1}, seconds=lambda a: 10.0)
    table = Table(simulation, section(candidate_retries=4), wave=1)
    for number, (old, new) in enumerate(["ab", "bc", "cd"]):
        simulation.at(5 + 8 * number, lambda n=old: simulation.remove_node(n))
        simulation.at(6 + 8 * number, lambda n=new: simulation.nodes.update({n: 1}))
    done = table.run([attempt(0, 0)])
    assert len(simulation.tried) == 4 and not done["t000-s0-r0"].failure


def test_towards_the_end_waves_shrink_so_that_all_workers_have_work() -> None:
    simulation = Simulation(nodes={"a": 4})
    table = Table(simulation, section(), wave=8)
    table.pool.expect(32)
    while len(table.pool._group.idle()) < 4:
        table.pool.poll(0.1)
    table.run([attempt(0, s) for s in range(8)])
    assert {worker for _, worker, _ in simulation.tried[:4]} == set(simulation.players)
    assert max(len(ids) for _, _, ids in simulation.tried) == 2


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


def test_places_that_others_wait_for_are_given_up_between_two_waves() -> None:
    simulation = Simulation(nodes={"a": 4})
    table = Table(simulation, section(), wave=2)

    def claim() -> None:
        simulation.others_wait = 2
        simulation.nodes["a"] = 2

    simulation.at(6, claim)
    simulation.at(30, lambda: setattr(simulation, "others_wait", 0))
    done = table.run(many(tasks=12))
    assert not any(t.failure for t in done.values())
    tried = [i for _, _, ids in simulation.tried for i in ids]
    assert len(tried) == len(set(tried)), "a wave was given up half done"
    gone = [e.worker for e in table.kinds(ActorChanged) if e.reason == "gives its place to another run"]
    assert len(gone) >= 2
