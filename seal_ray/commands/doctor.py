"""Looks at a set-up before a run trusts it: one finding for each thing that can be wrong, with its hint.

Each check is a small function that returns what it found, or raises: `SealError` is red, `Skipped` says why the check
could not be made, which is not green either. None may take longer than its limit.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from seal_ray.commands.examining import needs, nodes
from seal_ray.commands.examining.setup import Setup, Skipped
from seal_ray.config import Config
from seal_ray.errors import SealError
from seal_ray.records import Json

State = Literal["green", "red", "skipped"]
Check = Callable[[Setup], str]


@dataclass(frozen=True)
class Finding:
    check: str
    state: State
    found: str
    hint: str = ""


def examine(config: Config, checks: "Sequence[tuple[str, float, Check]] | None" = None) -> Iterator[Finding]:
    """Every finding as it is made, in the order of the checks."""
    setup = Setup(config)
    for name, seconds, check in checks or CHECKS:
        yield _bounded(name, seconds, check, setup)


def _bounded(name: str, seconds: float, check: Check, setup: Setup) -> Finding:
    if check is nodes.joined:  # the processes of a local cluster die with the thread that started them
        return _one(name, check, setup)
    findings: list[Finding] = []
    thread = threading.Thread(target=lambda: findings.append(_one(name, check, setup)), daemon=True)
    thread.start()
    thread.join(seconds)
    if findings:
        return findings[0]
    return Finding(name, "red", f"no answer within {seconds:g} s", "see what this machine or the cluster waits for")


def _one(name: str, check: Check, setup: Setup) -> Finding:
    try:
        return Finding(name, "green", check(setup))
    except Skipped as why:
        return Finding(name, "skipped", str(why))
    except SealError as error:
        return Finding(name, "red", error.message, error.hint)
    except Exception as error:  # a check that breaks must not hide the others
        return Finding(name, "red", f"{type(error).__name__}: {error}"[:500], "--debug shows where it came from")


CHECKS: list[tuple[str, float, Check]] = [
    ("cluster", 120, nodes.joined),
    ("room", 30, nodes.room),
    ("versions", 120, nodes.versions),
    ("gpus", 120, nodes.gpus),
    ("orphans", 120, nodes.orphans),
    ("collective", 200, nodes.collective),
    ("run uri", 180, needs.run_uri),
    ("conditional put", 90, needs.conditional_put),
    ("model", 200, needs.model),
    ("chat", 120, needs.chat),
    ("grader", 120, needs.grader),
    ("lora", needs.LORA_SECONDS + 20, needs.lora),
    ("disks", 120, needs.disks),
]


def as_data(findings: Sequence[Finding]) -> dict[str, Json]:
    red = sum(f.state == "red" for f in findings)
    checks: list[Any] = [{"check": f.check, "state": f.state, "found": f.found, "hint": f.hint} for f in findings]
    return {"well": not red, "red": red, "checks": checks}


def line(finding: Finding) -> str:
    """One line of text, the hint after an arrow."""
    hint = f" -> {finding.hint}" if finding.hint else ""
    return f"{finding.state:<8} {finding.check:<16} {finding.found}{hint}".replace("\n", " ")
