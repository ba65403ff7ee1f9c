"""Programs that a model wrote, as tasks on the cluster: each runs in a sandbox of the node that Ray chooses."""

from collections.abc import Sequence
from typing import Any

from seal_ray.fleet.actors import classify
from seal_ray.records import Failure
from seal_ray.sandbox import Program, ProgramLimits, ProgramResult, run_programs
from seal_ray.sandbox.choice import WantedIsolation

STARTING = 180.0  # seconds that a task's process may take to start on a busy node


def run_on_cluster(
    programs: Sequence[Program], limits: ProgramLimits, isolation: WantedIsolation
) -> list[ProgramResult]:
    """What became of each program. What Ray lost is a failure that may pass, and says nothing of the program."""
    import ray

    # no CPU is reserved: on a small cluster workers hold all of them while they wait for what is graded here
    remote: Any = ray.remote(num_cpus=0, max_retries=2, scheduling_strategy="SPREAD")
    task = remote(_one)
    refs = [task.remote(program, limits, isolation) for program in programs]
    allowed = STARTING + (limits.total + limits.seconds) * len(programs)
    ready, late = ray.wait(refs, num_returns=len(refs), timeout=allowed)
    for ref in late:
        ray.cancel(ref, force=True)
    return [_taken(ref) if ref in ready else _lost(f"no result within {allowed:g} s") for ref in refs]


def _one(program: Program, limits: ProgramLimits, isolation: WantedIsolation) -> ProgramResult:
    return run_programs([program], limits, isolation)[0]


def _taken(ref: Any) -> ProgramResult:
    import ray

    try:
        return ray.get(ref)
    except Exception as error:  # the task's own, or a node's end
        return _lost(str(classify(error)))


def _lost(why: str) -> ProgramResult:
    return ProgramResult(failure=Failure("sandbox", why[:500], "infra"))
