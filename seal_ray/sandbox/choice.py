"""Which isolation this machine has: each is tried out before a program is trusted to it."""

import platform
import shutil
from collections.abc import Sequence
from functools import cache
from typing import Literal, get_args

from seal_ray.errors import NoIsolation
from seal_ray.sandbox.isolation import Isolation, IsolationKind
from seal_ray.sandbox.program import Program, ProgramLimits, ProgramResult
from seal_ray.sandbox.runner import run_program

HINT = (
    "install bubblewrap, or let users make namespaces (Linux 5.14 and newer: kernel.unprivileged_userns_clone=1 and "
    "user.max_user_namespaces over 0; in a container: a seccomp profile that allows unshare, and procMount: Unmasked); "
    "domain.isolation: none runs programs with limits of time and memory only, in reach of all that this account reads"
)
WantedIsolation = Literal["auto", "bubblewrap", "namespaces", "none"]
TRIAL = Program("def f(x):\n    return x + 1\n", ({"code": "assert f(1) == 2"}, {"code": "assert f(1) == 3"}))


@cache
def choose(wanted: WantedIsolation = "auto") -> Isolation:
    """The isolation that is asked for, tried out. Raises where it can't be had.

    What works is kept as long as this process lives. What does not is tried again by the next that asks: a machine
    may be short of processes or memory for a moment only.
    """
    if wanted == "none":
        return Isolation("none")
    kinds: Sequence[IsolationKind] = (
        [k for k in get_args(IsolationKind) if k != "none"] if wanted == "auto" else [wanted]
    )
    problems = []
    for kind in kinds:
        problem = problem_with(kind)
        if not problem:
            return Isolation(kind)
        problems.append(f"{kind}: {problem}")
    raise NoIsolation(f"programs can't be kept apart on this machine ({'; '.join(problems)})", hint=HINT)


def problem_with(kind: IsolationKind) -> str:
    """Why this kind can't be had now; empty where it works."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "it is made for Linux on x86-64"
    if kind == "bubblewrap" and not shutil.which("bwrap"):
        return "bwrap is not installed"
    try:
        result = run_program(TRIAL, ProgramLimits(), Isolation(kind))
    except (NoIsolation, OSError) as error:
        return str(error)
    if result.failure:
        return result.failure.message
    came_to = [case.kind for case in result.cases]
    return "" if came_to == ["passed", "wrong"] else f"a trial came to {came_to}"


def run_programs(
    programs: Sequence[Program], limits: ProgramLimits, wanted: WantedIsolation = "auto"
) -> list[ProgramResult]:
    """What became of each, in sandboxes on this machine, one after another."""
    isolation = choose(wanted)
    return [run_program(program, limits, isolation) for program in programs]
