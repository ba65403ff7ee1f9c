"""Who is to blame when a wave is lost, in virtual time: the candidate, its worker, its node, or nobody."""

from dataclasses import replace

import pytest
from fleet_simulation import Simulation, Table, attempt, killer, many, section, trials

from seal_ray.errors import DataError, InfraError
from seal_ray.events import Warned
from seal_ray.fleet.wave_messages import Lost, OutOfMemory, WaveLease
from seal_ray.records import Ask, Attempt, Failure, Trial, Version


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


def asking(task: int, tokens: int) -> Attempt:
    one = attempt(task, 0, repeat=tokens)
    return replace(one, asks=(Ask("q", (1, 2), (), tokens),))


@pytest.mark.parametrize("known", ["another version", "short answers"])
def test_an_engine_that_starts_in_a_wave_is_no_candidates_fault(known: str) -> None:
    """An engine starts in the first wave that needs it, whatever waves took before."""
    simulation = Simulation(nodes={"a": 1})
    up: set[str] = set()

    def behave(worker: str, lease: WaveLease, now: float) -> object:
        starts = lease.attempts[0].asks[0].max_tokens == 512 and lease.version not in up
        simulation.seconds = lambda attempt: 45.0 if starts else 1.0
        up.add(lease.version if starts else "")
        return "hang" if lease.attempts[0].candidate.task == "task-099" else None

    simulation.behave = behave
    table = Table(simulation, section(candidate_deadline=60.0), wave=1)
    table.run([asking(t, 8) for t in range(20)])
    if known == "another version":
        table.run([asking(t, 512) for t in range(20)])
        table.pool.version(Version(1, "v1", "base", kind="full"), "weights")
    done = table.run([asking(t, 512) for t in range(20, 40)])
    assert len(done) == 20 and not any(t.failure for t in done.values())
    assert len(simulation.players) == 1 and len(up - {""}) == (2 if known == "another version" else 1)
    before = simulation.now
    assert table.run([asking(99, 512)])["t099-s0-r512"].failure
    assert simulation.now - before < 2 * 60, "what is known to be quick may take long"


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


def test_a_worker_whose_waves_fail_by_its_own_account_is_replaced() -> None:
    simulation = Simulation(nodes={"a": 2})
    simulation.behave = lambda w, lease, now: InfraError("CUDA error") if w == "worker-1" else None
    done = Table(simulation, section(candidate_retries=5), wave=2).run(many())
    assert not any(t.failure for t in done.values())
    assert simulation.players["worker-1"].dead and "worker-3" in simulation.players


def test_a_candidate_that_breaks_the_device_is_found_and_not_taken_for_its_neighbours_fault() -> None:
    simulation = Simulation(behave=killer("t002-s1-r0", InfraError("CUDA error: device-side assert")))
    done = Table(simulation, section(), wave=8).run(many())
    failed = {i: t.failure for i, t in done.items() if t.failure}
    assert failed.keys() == {"t002-s1-r0"}
    assert failed["t002-s1-r0"].kind == "lost" and failed["t002-s1-r0"].blame == "infra"


def test_a_candidate_whose_nodes_die_under_it_is_not_taken_for_a_killer() -> None:
    simulation = Simulation(nodes={"a": 1}, seconds=lambda a: 10.0)
    table = Table(simulation, section(candidate_retries=4), wave=1)
    for number, (old, new) in enumerate(["ab", "bc", "cd"]):
        simulation.at(5 + 8 * number, lambda n=old: simulation.remove_node(n))
        simulation.at(6 + 8 * number, lambda n=new: simulation.nodes.update({n: 1}))
    done = table.run([attempt(0, 0)])
    assert len(simulation.tried) == 4 and not done["t000-s0-r0"].failure
