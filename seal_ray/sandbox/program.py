"""A program with its tests, what it may use, and what became of it. Plain data that travels between processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from seal_ray.plain_data import Json
from seal_ray.records import Failure

CaseKind = Literal[
    "passed",
    "wrong",  # another value than the test wants
    "raised",
    "syntax_error",
    "timeout",
    "memory",
    "processes",
    "output",  # it wrote or gave back more than it may
    "died",  # its process ended, or said what is no reply
    # nothing is known of the program:
    "unsupported",  # the test gives it a value that can't be sent to it
    "broken_test",  # the test is no Python, or ends, or does not, without having asked for anything
]
FAULTS_OF_TESTS = {"unsupported": "unsupported_tests", "broken_test": "broken_tests"}  # and as what a verdict fails


@dataclass(frozen=True)
class Program:
    """What a model wrote, and the tests that it never sees.

    A case is `{"code": TEXT}`, statements of which none may raise, or `{"args": [...], "expected": VALUE}` with which
    `entry` is called. `setup` is run before each case, with the names that the solution has. Of the names that Python
    has itself (`all`, `sorted`) tests take the solution's only where the task asks for one of that name: `redefines`.
    """

    solution: str
    cases: tuple[Mapping[str, Json], ...]
    setup: str = ""
    entry: str = ""
    redefines: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProgramLimits:
    """What a solution may use. What it used up before counts for the case in which that was found."""

    cpu: float = 5.0  # seconds that a case may compute
    seconds: float = 30.0  # seconds on the wall for a case; generous, since a busy machine is not the program's fault
    total: float = 120.0  # seconds on the wall for all cases
    memory: int = 512 << 20  # bytes of all its processes together
    disk: int = 16 << 20  # bytes of files
    output: int = 1 << 20  # bytes that it may print, and bytes of a value that it gives back
    processes: int = 16
    files: int = 64  # open ones, for each process


@dataclass(frozen=True)
class CaseResult:
    kind: CaseKind
    message: str = ""


@dataclass(frozen=True)
class ProgramResult:
    """One result for each case, in order; or why there is none, which says nothing of the program."""

    cases: tuple[CaseResult, ...] = ()
    failure: Failure | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> int:
        return sum(case.kind == "passed" for case in self.cases)
