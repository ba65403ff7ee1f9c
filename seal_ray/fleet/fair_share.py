"""How runs that want the same cluster divide it: by priority, and nobody gets more than it has work for.

Every driver sees what all runs hold and wait for, and comes to the same result by itself. Runs give back, and never
take: what is given back goes to whoever waits.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_NAME = re.compile(r"seal-ray:(?P<run>[0-9a-f]+):(?P<priority>[0-9.e+-]+):(?P<units>[0-9.e+-]+)(?P<kind>GPU|CPU):\d+")


@dataclass(frozen=True)
class Claim:
    """One placement group as everybody on the cluster sees it: whose it is, what it asks for, whether it has it."""

    run: str
    priority: float
    units: float
    kind: str  # of what: GPU, or CPU where there are none
    granted: bool

    def name(self, number: int) -> str:
        return f"seal-ray:{self.run}:{self.priority:g}:{self.units:g}{self.kind}:{number}"


def read_claim(name: str, granted: bool) -> Claim | None:
    """The claim that a placement group's name tells of; None for one that is not ours."""
    told = _NAME.fullmatch(name)
    if not told:
        return None
    try:
        return Claim(told["run"], float(told["priority"]), float(told["units"]), told["kind"], granted)
    except ValueError:
        return None


def surplus(run: str, kind: str, all_claims: Sequence[Claim]) -> float:
    """What a run holds of a kind above its share while others wait; 0 where nobody does."""
    claims = [c for c in all_claims if c.kind == kind]
    if not any(c.run != run and not c.granted for c in claims):
        return 0.0
    held = _sums(c for c in claims if c.granted)
    wanted = _sums(claims)
    priorities = {c.run: c.priority for c in claims}
    return max(0.0, held.get(run, 0.0) - shares(wanted, priorities, sum(held.values()))[run]) if run in wanted else 0.0


def shares(wanted: dict[str, float], priorities: dict[str, float], total: float) -> dict[str, float]:
    """`total` in proportion to priority; what a run does not want is divided among the others."""
    out: dict[str, float] = {}
    left = set(wanted)
    while left:
        weight = sum(priorities[run] for run in left)
        content = {run for run in left if wanted[run] <= total * priorities[run] / weight}
        if not content:
            return out | {run: total * priorities[run] / weight for run in left}
        out |= {run: wanted[run] for run in content}
        total -= sum(wanted[run] for run in content)
        left -= content
    return out


def _sums(claims: Iterable[Claim]) -> dict[str, float]:
    out: dict[str, float] = {}
    for claim in claims:
        out[claim.run] = out.get(claim.run, 0.0) + claim.units
    return out
