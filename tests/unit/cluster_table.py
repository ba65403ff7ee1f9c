"""A cluster's scheduler as a table: placement groups are granted whole, in order, while there is room."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Group:
    name: str
    bundles: list[dict[str, float]]
    places: list[int] | None = None  # nodes; None: it waits


@dataclass
class ClusterTable:
    """Nodes with what they have."""

    nodes: list[dict[str, float]]
    groups: list[Group] = field(default_factory=list)
    made: list[str] = field(default_factory=list)

    def create(self, name: str, bundles: Sequence[dict[str, float]]) -> Group:
        group = Group(name, list(bundles))
        self.groups.append(group)
        self.made.append(name)
        return group

    def remove(self, group: Group) -> None:
        self.groups.remove(group)

    def states(self) -> Mapping[str, bool]:
        for group in self.groups:
            if group.places is None:
                group.places = self._place(group)
        return {g.name: g.places is not None for g in self.groups}

    def lose(self, node: int) -> None:
        """A node is gone; groups that were on it wait again."""
        self.nodes[node] = {}
        for group in self.groups:
            if group.places and node in group.places:
                group.places = None

    def free(self, kind: str) -> float:
        return sum(node.get(kind, 0.0) for node in self._left())

    def _left(self) -> list[dict[str, float]]:
        left = [dict(n) for n in self.nodes]
        for group in self.groups:
            for place, bundle in zip(group.places or [], group.bundles, strict=False):
                _take(left[place], bundle)
        return left

    def _place(self, group: Group) -> list[int] | None:
        left = self._left()
        places = []
        for bundle in group.bundles:
            fitting = [i for i, n in enumerate(left) if all(n.get(k, 0) >= v - 1e-9 for k, v in bundle.items())]
            if not fitting:
                return None
            _take(left[fitting[0]], bundle)
            places.append(fitting[0])
        return places


def _take(node: dict[str, float], bundle: dict[str, float]) -> None:
    for key, amount in bundle.items():
        node[key] = node.get(key, 0) - amount
