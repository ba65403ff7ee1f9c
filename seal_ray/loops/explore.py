"""How an exploration is carried out: samplers write, a pool tries, graders grade, until nothing is left to do."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from seal_ray.errors import InfraError
from seal_ray.loops.exploration import Exploration
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.phases import Phases
from seal_ray.loops.session import Session
from seal_ray.records import Attempt, Edit, Trial
from seal_ray.sampling.sampler import EditPrompt
from seal_ray.storage.ledger import RoundLedger

NAP = 0.02  # seconds between looks at graders while nothing else is on
Tick = Callable[[], None]  # called often; raises when the run must stop


class Samplers(Protocol):
    """What an exploration needs of those that write edits."""

    def submit(self, chunk_id: str, chunk: Sequence[EditPrompt]) -> None: ...
    def poll(self, timeout: float) -> list[tuple[str, list[Edit]]]: ...


class TrialPool(Protocol):
    """What an exploration needs of those that try candidates."""

    def submit(self, attempts: Iterable[Attempt]) -> None: ...
    def poll(self, timeout: float) -> list[Trial]: ...
    def room(self) -> int: ...
    def expect(self, count: int) -> None: ...
    def flush(self) -> None: ...


def explore(session: Session, part: RoundLedger, plan: Plan) -> Exploration:
    """Sample, try and grade whatever the plan says and the ledger does not have yet."""
    exploration = Exploration(session, part, plan)
    carry_on(session, exploration)
    return exploration


def sample(session: Session, part: RoundLedger, plan: Plan) -> dict[str, list[Edit]]:
    """Nothing but the plan's edits, of all its tasks: what was lost by nobody's fault is not as if nobody had asked."""
    exploration = explore(session, part, replace(plan, repeats=0, trials=False))
    if lost := len(exploration.lost):
        raise InfraError(
            f"the edits of {lost} of {len(plan.tasks)} tasks were lost", hint="the same command samples them again"
        )
    return exploration.edits


def carry_on(session: Session, exploration: Exploration) -> None:
    """Do what is left: sampling beside trying where there is room for both, else one after the other."""
    if exploration.done:
        return
    phases = Phases(session.tell, exploration.total)
    if not exploration.tried_out:
        _on_machines(session, exploration, phases)
    while not exploration.done:  # of a round that is gone on with, answers may be all that is there
        session.tick()
        if not exploration.collect_verdicts():
            time.sleep(NAP)
        phases.look({"grading": exploration.grading})
    session.ledger.flush()
    session.domain.check(whole=True)


def _on_machines(session: Session, exploration: Exploration, phases: Phases) -> None:
    crew, version = session.crew, exploration.plan.version
    crew.plan_anew()
    adapter = session.adapter(version)
    if crew.overlap or exploration.sampled:
        samplers = None if exploration.sampled else crew.samplers(version, adapter)
        drive(exploration, samplers, crew.pool(version, adapter), session.tick, phases)
    else:
        drive(exploration, crew.samplers(version, adapter), None, session.tick, phases)
        if not exploration.tried_out:  # a judge that rates edits needs no workers
            drive(exploration, None, crew.pool(version, adapter), session.tick, phases)


def drive(
    exploration: Exploration, samplers: Samplers | None, pool: TrialPool | None, tick: Tick, phases: Phases
) -> None:
    """Sample and try, side by side, until nothing is left that these samplers and this pool can do."""
    waiting = set[str]()
    if samplers:
        for chunk_id, chunk in exploration.chunks():
            samplers.submit(chunk_id, chunk)
            waiting.add(chunk_id)
    flushed = False

    def look() -> None:
        trying = pool is not None and exploration.trying
        phases.look({"sampling": bool(waiting), "trials": trying, "grading": exploration.grading})

    while True:
        tick()
        for chunk_id, edits in samplers.poll(0 if pool else 0.2) if samplers and waiting else []:
            waiting.discard(chunk_id)
            exploration.took(edits)
        if pool:
            if waiting:
                pool.expect(exploration.to_come)  # workers start while samplers still write
            attempts = exploration.attempts(pool.room())
            pool.submit(attempts)
            flushed = flushed and not attempts  # heats bring more when all seemed to be out
            look()
            if not waiting and not exploration.queued and not flushed:
                pool.flush()
                flushed = True
            for trial in pool.poll(0.05):
                exploration.tried(trial)
        exploration.collect_verdicts()
        look()
        if not waiting and (not pool or exploration.done):
            return
