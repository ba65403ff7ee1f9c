"""What a check is given, and how it says what is wrong with a node."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from seal_ray.config import Config
from seal_ray.errors import InfraError
from seal_ray.fleet import node_survey
from seal_ray.fleet.cluster import Node
from seal_ray.fleet.node_survey import computing

GB = 1e9


class Skipped(Exception):
    """A check that could not be made, and why."""


@dataclass
class Setup:
    """What is looked at: a configuration, and the nodes of its cluster once that is joined."""

    config: Config
    nodes: Sequence[Node] = field(default_factory=tuple)

    def computing(self) -> list[Node]:
        nodes = computing(self.nodes)
        if not nodes:
            raise Skipped("no node to ask: see `cluster`")
        return nodes


def count(some: Sequence[object]) -> str:
    return f"{len(some)} node{'' if len(some) == 1 else 's'}"


def all_well(problems: Sequence[tuple[Node, str]], *, hint: str) -> None:
    """Nothing where no node has a problem; else what each of them has."""
    text = node_survey.by_node(problems)
    if text:
        raise InfraError(text, hint=hint)
