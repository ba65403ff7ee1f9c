"""How runs that want the same cluster divide it: by priority, and nobody gets more than it has work for.

Every driver sees what all runs hold and wait for, and comes to the same result by itself. Runs give back, and never
take: what is given back goes to whoever waits.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

SLACK = 1e-6  # of units, which may be parts of a GPU
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


def surplus(run: str, kind: str, all_claims: Sequence[Claim], free: float) -> float:
    """What a run holds of a kind above its share, where that helps one that waits; else 0. `free`: what nobody holds.

    A group is granted whole or not at all. So a run that holds nothing is due its smallest group, if that fits beside
    what those before it can't do without; and nobody gives back what would lie idle.
    """
    claims = [c for c in all_claims if c.kind == kind]
    held, wanted = _sums(c for c in claims if c.granted), _sums(claims)
    waiting = {r: min(of_run) for r, of_run in _units(c for c in claims if not c.granted).items()}
    if run not in held or not waiting.keys() - {run}:
        return 0.0
    # what a run can't do without is one group, and whatever it has beyond that are others
    kept = {r: max(of_run) for r, of_run in _units(c for c in claims if c.granted).items()}
    total, priorities = sum(held.values()) + free, {c.run: c.priority for c in claims}
    due, room = dict[str, float](), total - sum(kept.values())
    for _, units, r in sorted((-priorities[r], units, r) for r, units in waiting.items() if r not in held):
        if units <= room + SLACK:
            due[r], room = units, room - units
        else:
            wanted[r] = 0.0  # it waits for more than there will be, whoever gives back
    fair = shares(wanted, priorities, total, due)
    spare = {r: max(0.0, min(units - fair[r], units - kept[r])) for r, units in held.items()}
    freed = free + sum(spare.values()) + SLACK
    helped = any(r != run and held.get(r, 0.0) < fair[r] and units <= freed for r, units in waiting.items())
    return spare[run] if helped else 0.0


def shares(
    wanted: Mapping[str, float], priorities: Mapping[str, float], total: float, due: Mapping[str, float]
) -> dict[str, float]:
    """`total` in proportion to priority; what a run does not want is divided among the others.

    `due`: what a run gets at least, all of them together no more than there is.
    """
    out = _in_proportion(wanted, priorities, total)
    short = {run: units for run, units in due.items() if out[run] < units}
    if not short:
        return out
    others = {run: units for run, units in wanted.items() if run not in short}
    rest = {run: units for run, units in due.items() if run not in short}
    return short | shares(others, priorities, max(0.0, total - sum(short.values())), rest)


def _in_proportion(wanted: Mapping[str, float], priorities: Mapping[str, float], total: float) -> dict[str, float]:
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


def _units(claims: Iterable[Claim]) -> dict[str, list[float]]:
    """The sizes of each run's groups."""
    out: dict[str, list[float]] = {}
    for claim in claims:
        out.setdefault(claim.run, []).append(claim.units)
    return out
