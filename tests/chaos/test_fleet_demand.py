"""What a run asks of an autoscaler: nodes that come on one machine when there is work, and workers that sleep."""

import time
from collections.abc import Iterator

import pytest
import ray
from autoscaled_cluster import autoscaled
from fleet_cluster import Fleet, attempts
from ray.util.placement_group import placement_group_table

from seal_ray.events import WaveDone

pytestmark = pytest.mark.slow

NODE = {"CPU": 1.0}
WANTED = {"max_workers": 4, "worker_grace": 90.0, "deadline": 90.0}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    # fake nodes share one address, so the autoscaler takes one that is busy for free: the last group it is asked
    # for brings no node, and of four that are wanted three come
    with autoscaled(6, NODE) as address:
        yield address


def nodes() -> int:
    """Nodes that are alive, without the head."""
    return sum(n["Alive"] for n in ray.nodes()) - 1


def asked() -> int:
    """Placement groups that are there or waited for."""
    return sum(g["state"] != "REMOVED" for g in placement_group_table().values())


def workers(fleet: Fleet) -> set[str]:
    return {e.worker for e in fleet.events if isinstance(e, WaveDone)}


def test_from_no_node_to_as_many_as_there_is_work_for(cluster: str) -> None:
    assert nodes() == 0
    fleet = Fleet(**WANTED)
    began, seen = time.monotonic(), list[tuple[float, int, int]]()

    def often(done: int) -> None:
        now = (nodes(), asked())
        if not seen or seen[-1][1:] != now:
            seen.append((round(time.monotonic() - began, 1), *now))

    work = attempts(60, 10)  # enough to last until slow machines have started all nodes
    done = fleet.run(work, limit=280, often=often)
    print("seconds, nodes, groups:", seen)
    assert len(done) == len(work) and not any(t.failure for t in done.values())
    assert max(groups for _, _, groups in seen) == 4, "more was asked for than the run may have"
    assert max(n for _, n, _ in seen) >= 3 and len(workers(fleet)) >= 3
    fleet.close()
    assert asked() == 0
