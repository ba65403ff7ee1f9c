"""Where a program runs that nobody trusts: apart, watched, and heard through a channel that it lacks."""

from seal_ray.sandbox.choice import choose, run_programs
from seal_ray.sandbox.isolation import Isolation
from seal_ray.sandbox.program import CaseResult, Program, ProgramLimits, ProgramResult
from seal_ray.sandbox.runner import run_program

__all__ = [
    "CaseResult",
    "Isolation",
    "Program",
    "ProgramLimits",
    "ProgramResult",
    "choose",
    "run_program",
    "run_programs",
]
