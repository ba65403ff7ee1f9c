"""Everything of Ray that has no public face and that we use all the same: one place to look when Ray changes."""

from typing import Any


def canonical_address(address: str) -> str:
    """host:port of what `auto` or a name stands for; raises ConnectionError where nothing is running."""
    from ray._private import services

    return services.canonicalize_bootstrap_address_or_die(address)


def free_resources() -> dict[str, dict[str, float]]:
    """What nobody holds, by node id. The public call gives the sum of the cluster only."""
    from ray._private import state

    return state.available_resources_per_node()


def draining_nodes() -> list[str]:
    """Ids of nodes that have announced that they will be drained."""
    from ray._private import state

    return list(state.state.get_draining_nodes())


def live_actors() -> dict[str, list[int]]:
    """Process ids of all actors of the cluster that are not dead, by node id."""
    from ray._private import state

    out: dict[str, list[int]] = {}
    for actor in state.actors().values():
        if actor["State"] != "DEAD":
            out.setdefault(actor["Address"]["NodeID"], []).append(int(actor["Pid"]))
    return out


def placement_group(identity: str) -> Any:
    """A placement group that somebody else made, by its id in hexadecimal."""
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup

    return PlacementGroup(PlacementGroupID(bytes.fromhex(identity)))
