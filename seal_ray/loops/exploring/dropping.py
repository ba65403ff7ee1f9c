"""Which edits of a task are not tried, or not to the end: decided once, in the ledger before anything rests on it.

An edit that was dropped is not tried. It has no trial and so no reward, as little as an edit that did not parse: what
nobody measured is never a zero.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from seal_ray.events import EditsDropped, Event
from seal_ray.records import Dropping, Edit, digest
from seal_ray.storage.ledger import RoundLedger

Stage = Literal["predicted", "heat"]


class Droppings:
    """The droppings of one exploration, as far as they are decided."""

    def __init__(self, ledger: RoundLedger, version: str, tell: Callable[[Event], None]) -> None:
        self._ledger, self._version, self._tell = ledger, version, tell
        self._made: dict[tuple[str, str], Dropping] = {
            (d.task, d.stage): d for d in ledger.records("droppings").values() if d.version == version
        }

    def decided(self, task: str, stage: Stage) -> bool:
        return (task, stage) in self._made

    def decide(self, task: str, stage: Stage, edits: Sequence[Edit], dropped: Mapping[str, str]) -> None:
        """Drop these edits of the task, each for its reason."""
        kept = tuple(e.id for e in edits if e.id not in dropped)
        made = Dropping(digest([self._version, task, stage])[:32], task, self._version, stage, kept, dict(dropped))
        self._ledger.append("droppings", made)
        self._ledger.flush()
        self._made[task, stage] = made
        self._tell(EditsDropped(task, stage, len(kept), len(dropped), dict(dropped)))

    def left(self, task: str, edits: Sequence[Edit]) -> list[Edit]:
        """The edits that no stage has dropped."""
        gone = {edit for d in self._made.values() if d.task == task for edit in d.dropped}
        return [e for e in edits if e.id not in gone]
