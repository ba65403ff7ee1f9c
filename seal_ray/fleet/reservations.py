"""What a run asks of the cluster, as placement groups: Ray grants each of them whole or not at all, and an autoscaler
starts nodes for those that wait.

The least that a phase can't do without is one group, so that two runs never hold half of it each. Every further actor
has a group of its own, which is there while there is work for it. All of them end with the driver.
"""

import itertools
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from seal_ray.fleet.fair_share import Claim, read_claim, surplus
from seal_ray.fleet.placement import Role, RoleName

ALL = -1  # an actor that uses all bundles of its group
LOOK_EVERY = 0.2  # seconds between looks at what was granted
SETTLE_SECONDS = 5.0  # until what was given back has been counted as free, and granted to whoever waits
YIELD_SECONDS = 60.0  # a run that gave back for the sake of others asks for no more for so long
Bundle = dict[str, float]
_NUMBERS = itertools.count(1)  # a name is given once in a process, whoever asks


class Groups(Protocol):
    """Placement groups, as far as they are needed here; a table of nodes can play them."""

    def create(self, name: str, bundles: Sequence[Bundle]) -> Any: ...
    def remove(self, group: Any) -> None: ...

    def states(self) -> Mapping[str, bool]:
        """The name of every group on the cluster, and whether it was granted."""
        ...

    def free(self, kind: str) -> float:
        """GPUs or CPUs of the cluster that nobody holds."""
        ...


class RayGroups:
    """Ray's own."""

    def create(self, name: str, bundles: Sequence[Bundle]) -> Any:
        from ray.util.placement_group import placement_group

        return placement_group(list(bundles), name=name, strategy="PACK")

    def remove(self, group: Any) -> None:
        from ray.util.placement_group import remove_placement_group

        remove_placement_group(group)

    def states(self) -> Mapping[str, bool]:
        from ray.util.placement_group import placement_group_table

        groups = placement_group_table().values()
        return {g["name"]: g["state"] == "CREATED" for g in groups if g["name"] and g["state"] != "REMOVED"}

    def free(self, kind: str) -> float:
        import ray

        return float(ray.available_resources().get(kind, 0.0))


@dataclass
class Slot:
    """A place for one actor."""

    role: RoleName | None  # None: for any role that fits
    bundle: Bundle  # what an actor there may have
    index: int  # of the bundle in its group
    actor: str = ""

    def serves(self, role: Role) -> bool:
        if self.index == ALL or role.across_nodes:
            return self.role == role.name
        needed = role.bundles(1)[0]
        return self.role in (None, role.name) and all(self.bundle.get(k, 0) >= v - 1e-6 for k, v in needed.items())


@dataclass
class Reservation:
    """A placement group of ours and the slots in it."""

    name: str
    group: Any
    slots: list[Slot]
    granted: bool = False


@dataclass
class Reservations:
    """All that a run has asked for. State: what was asked, what of it is granted, and which actor is where."""

    groups: Groups = field(default_factory=RayGroups)
    priority: float = 1.0
    clock: Callable[[], float] = time.monotonic
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self._least: Reservation | None = None
        self._extra: list[Reservation] = []
        self._claims: list[Claim] = []
        self._looked = self._yielded = self._gave_back = -1e9

    # the least of a phase

    def reserve(self, roles: Sequence[tuple[Role, int]], *, shared: bool) -> None:
        """Ask for so many of each role at once; `shared`: roles take turns in the slots. What serves already stays.

        Nothing may be running in the slots that this replaces.
        """
        fixed = [(role, count) for role, count in roles if not role.across_nodes]
        # an engine over nodes may need every GPU, and has a group of its own: what others had their turn in goes
        if fixed and self._suits(fixed):
            return
        self.let_go()
        slots: list[Slot] = []
        for role, count in fixed:
            for bundle in role.bundles(count):
                slots.append(Slot(None if shared else role.name, bundle, len(slots)))
        if slots:
            self._least = self._create([slot.bundle for slot in slots], slots)

    def _suits(self, roles: Sequence[tuple[Role, int]]) -> bool:
        """Whether what is reserved serves these roles, and holds no GPUs that they leave unused.

        A worker in the place of an engine over 8 GPUs would be the only one there.
        """
        slots = self._least.slots if self._least else []
        most = max(role.gpus for role, _ in roles) + 1e-6
        enough = all(sum(s.serves(role) for s in slots) >= count for role, count in roles)
        return enough and all(s.bundle.get("GPU", 0) <= most for s in slots)

    def reserved(self) -> bool:
        """Whether the least that was asked for is ours."""
        self._look()
        return self._least is None or self._least.granted

    def let_go(self) -> None:
        """Give the least back."""
        if self._least:
            self.groups.remove(self._least.group)
            self._least = None

    # further actors

    def want(self, role: Role, count: int) -> int:
        """Ask for so many of a role in all. Returns how many of them may be started now."""
        self._look()
        slots = [s for s in self._slots() if s.serves(role)]
        lacking = count - sum(not s.actor or s.actor.startswith(f"{role.name}-") for s in slots)
        if lacking > 0 and self.clock() - self._yielded > YIELD_SECONDS:
            self._extra += [self._ask(role) for _ in range(lacking)]
            self._look()
        for unused in self._unused(role)[: max(0, -lacking)]:
            self._remove(unused)
        taken = sum(s.actor.startswith(f"{role.name}-") for s in slots)
        return max(0, min(count - taken, len(self._free(role))))

    def _ask(self, role: Role) -> Reservation:
        bundles = role.bundles(1)
        return self._create(bundles, [Slot(role.name, bundles[0], ALL if role.across_nodes else 0)])

    def _unused(self, role: Role) -> list[Reservation]:
        """Groups of single actors that nothing runs in, those that still wait first."""
        unused = [r for r in self._extra if r.slots[0].role == role.name and not r.slots[0].actor]
        return sorted(unused, key=lambda r: r.granted)

    def take(self, role: Role, actor: str) -> tuple[Any, int] | None:
        """The group and the bundle that an actor is to be started in."""
        for reservation, slot in self._free(role):
            slot.actor = actor
            return reservation.group, slot.index
        return None

    def give_back(self, actor: str) -> None:
        """The actor is gone. A group of its own goes with it: whoever wants another one asks anew."""
        for reservation in self._all():
            for slot in reservation.slots:
                if slot.actor == actor:
                    slot.actor = ""
                    if reservation is not self._least:
                        self._remove(reservation)

    def release(self, role: Role) -> None:
        """Ask for none of the role beyond the least."""
        for reservation in [r for r in self._extra if r.slots[0].role == role.name]:
            self._remove(reservation)
        for slot in self._slots():
            if slot.actor.startswith(f"{role.name}-"):
                slot.actor = ""

    def too_many(self, role: Role) -> int:
        """How many of a role are above this run's share while other runs wait."""
        self._look()
        if self.clock() - self._gave_back < SETTLE_SECONDS:
            return 0
        each, kind = units(role.bundles(1))
        if not any(c.run != self.run and c.kind == kind and not c.granted for c in self._claims):
            return 0
        count = int(surplus(self.run, kind, self._claims, self.groups.free(kind)) / each + 1e-6)
        if count:
            self._yielded = self.clock()
        return count

    # inside

    def _create(self, bundles: list[Bundle], slots: list[Slot]) -> Reservation:
        name = Claim(self.run, self.priority, *units(bundles), False).name(next(_NUMBERS))
        self._looked = -1e9
        return Reservation(name, self.groups.create(name, bundles), slots)

    def _remove(self, reservation: Reservation) -> None:
        self._looked = -1e9
        if reservation.granted:
            self._gave_back = self.clock()
        self._extra.remove(reservation)
        self.groups.remove(reservation.group)

    def _all(self) -> list[Reservation]:
        return [*([self._least] if self._least else []), *self._extra]

    def _slots(self) -> list[Slot]:
        return [slot for reservation in self._all() for slot in reservation.slots]

    def _free(self, role: Role) -> list[tuple[Reservation, Slot]]:
        return [(r, s) for r in self._all() if r.granted for s in r.slots if not s.actor and s.serves(role)]

    def _look(self) -> None:
        """See what was granted by now; a group whose node was lost waits again."""
        if self.clock() - self._looked < LOOK_EVERY:
            return
        self._looked = self.clock()
        states = self.groups.states()
        for reservation in self._all():
            reservation.granted = states.get(reservation.name, False)
        self._claims = [c for name, granted in states.items() if (c := read_claim(name, granted))]


def units(bundles: Sequence[Bundle]) -> tuple[float, str]:
    """What a demand is counted in between runs: GPUs, or CPUs where there are none."""
    gpus = sum(b.get("GPU", 0) for b in bundles)
    return (gpus, "GPU") if gpus else (sum(b["CPU"] for b in bundles), "CPU")
