"""What a run asks of an autoscaler, and gives back: nodes that come and go on one machine, workers that sleep."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

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
    with autoscaled(4, NODE) as address:
        yield address


def nodes() -> int:
    """Nodes that are alive, without the head."""
    return sum(n["Alive"] for n in ray.nodes()) - 1


def asked() -> int:
    """Placement groups that are there or waited for."""
    return sum(g["state"] != "REMOVED" for g in placement_group_table().values())


def until(true: Callable[[], bool], what: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def workers(fleet: Fleet) -> set[str]:
    return {e.worker for e in fleet.events if isinstance(e, WaveDone)}


def test_from_no_node_to_as_many_as_there_is_work_for_and_back(cluster: str) -> None:
    assert nodes() == 0
    fleet = Fleet(**WANTED)
    began, seen = time.monotonic(), list[tuple[float, int, int]]()

    def often(done: int) -> None:
        now = (nodes(), asked())
        if not seen or seen[-1][1:] != now:
            seen.append((round(time.monotonic() - began, 1), *now))

    work = attempts(120, 10)  # enough to last until slow machines have started all nodes
    done = fleet.run(work, limit=280, often=often)
    print("seconds, nodes, groups:", seen)
    assert len(done) == len(work) and not any(t.failure for t in done.values())
    assert max(n for _, n, _ in seen) == 4 and len(workers(fleet)) >= 4
    fleet.close()
    assert asked() == 0
    until(lambda: nodes() == 0, "nodes that nobody uses stay")
    print("back to none after", round(time.monotonic() - began, 1), "s")


def test_little_work_asks_for_few_nodes(cluster: str) -> None:
    until(lambda: nodes() == 0, "nodes of the test before stay")
    fleet = Fleet(**WANTED)
    most = 0

    def often(done: int) -> None:
        nonlocal most
        most = max(most, asked())

    assert len(fleet.run(attempts(1, 4), limit=120, often=often)) == 4
    assert most == 1, "one wave of work asked for more than one worker"
    fleet.close()


def test_the_last_worker_that_is_lost_with_its_node_is_replaced(cluster: str) -> None:
    fleet = Fleet(**{**WANTED, "max_workers": 1})
    killed: list[str] = []

    def often(done: int) -> None:
        if done >= 4 and not killed:
            (node,) = (n for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU"))
            killed.append(node["NodeID"])
            kill_node(node["NodeID"])

    work = attempts(8, 6)
    done = fleet.run(work, limit=200, often=often)
    assert killed and len(done) == len(work) and not any(t.failure for t in done.values())
    assert len(workers(fleet)) >= 2
    fleet.close()


def kill_node(identity: str) -> None:
    """The raylet of a node dies, as with its machine."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            with open(f"/proc/{entry.name}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"raylet") and any(identity.encode() in w for w in words):
            os.kill(int(entry.name), signal.SIGKILL)
            return
    raise AssertionError(f"no raylet of node {identity}")


def test_two_runs_share_the_nodes_and_both_end(cluster: str) -> None:
    one, two = Fleet(**WANTED), Fleet(**WANTED)
    one.begin(attempts(60, 6, prefix="one"))
    done: dict[str, dict[str, Any]] = {"one": {}, "two": {}}
    end, begun, most = time.monotonic() + 300, False, 0
    while one.pool.pending() or two.pool.pending() or not begun:
        assert time.monotonic() < end, f"{one.pool.pending()} and {two.pool.pending()} are pending"
        done["one"] |= {t.candidate: t for t in one.pool.poll(0.1)}
        if not begun and one.alive() == 4:
            two.begin(attempts(30, 6, prefix="two"))
            begun = True
        if begun:
            done["two"] |= {t.candidate: t for t in two.pool.poll(0.1)}
            if one.pool.pending():
                most = max(most, two.alive())
    assert len(done["one"]) == 360 and len(done["two"]) == 180
    assert not any(t.failure for trials in done.values() for t in trials.values())
    assert most == 2, "the second run did not get its half while the first had work"
    one.close()
    two.close()
    assert asked() == 0
