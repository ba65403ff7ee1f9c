"""What a run has spent, against what it may."""

import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace

from seal_ray.config import Budget
from seal_ray.errors import BudgetSpent
from seal_ray.events import BudgetReached, Sink
from seal_ray.grading.endpoint import Usage

Meter = Callable[[], float]


class Spending:
    """The meters of a run and their limits, under the names that `run.budget` gives them.

    `before`: what drivers before this one have spent on the same run.
    """

    def __init__(
        self, limits: Budget, gpu_hours: Meter, judge_dollars: Meter, before: Mapping[str, float] | None = None
    ) -> None:
        self._limits, self._began = limits, time.monotonic()
        self.before = before or {}
        self._meters: dict[str, Meter] = {"hours": self.hours, "gpu_hours": gpu_hours, "judge_dollars": judge_dollars}

    def hours(self) -> float:
        """On the wall, since this was made."""
        return (time.monotonic() - self._began) / 3600

    def total(self) -> dict[str, float]:
        """What the run has spent, for whoever drives it next."""
        return {name: self._amount(name) for name in self._meters}

    def _amount(self, name: str) -> float:
        return float(self.before.get(name, 0.0)) + self._meters[name]()

    def check(self, tell: Sink) -> None:
        """Raise where something is spent. A meter without a limit is not read."""
        for name in self._meters:
            limit = getattr(self._limits, name)
            if limit and (amount := self._amount(name)) >= limit:
                tell(BudgetReached({name: amount}, limit))
                raise BudgetSpent(
                    f"run.budget.{name}: {limit:g} is spent; everything found is kept",
                    hint="raise it to go on where this stopped",
                )


class JudgeUse:
    """What a judge was used for since this was last asked. Without a judge that is nothing."""

    def __init__(self, usage: Usage | None) -> None:
        self._usage = usage or Usage()
        self._told = replace(self._usage)

    def since(self) -> Usage:
        now, told = replace(self._usage), self._told
        self._told = now
        return Usage(**{f.name: getattr(now, f.name) - getattr(told, f.name) for f in fields(Usage)})
