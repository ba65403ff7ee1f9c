"""What a local cluster starts before there is anything to do."""

import os
import time
from pathlib import Path

import ray

from seal_ray.config import PlacementSection
from seal_ray.fleet import cluster

SETTLED = 5  # seconds; Ray starts the workers that it starts ahead at once


def parents() -> dict[int, int]:
    """The parent of each process that runs."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:  # it has ended by now
            continue
        found[int(name.split()[0])] = int(rest.split()[1])
    return found


def workers() -> list[int]:
    """The processes of this process's cluster that run tasks and actors: what its raylet started, helpers aside."""
    known = parents()
    own = [p for p in known if known[p] in known and known[known[p]] == os.getpid()]
    titles = {p: command(p) for p in own}
    return [p for p, t in titles.items() if b"default_worker" in t or (b"ray::" in t and b"Agent" not in t)]


def command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def test_no_process_is_started_ahead_that_no_actor_could_use() -> None:
    @ray.remote(num_cpus=0)
    def process() -> int:
        return os.getpid()

    cluster.connect(PlacementSection(address="local"))
    try:
        time.sleep(SETTLED)
        assert workers() == []
        assert ray.get(process.remote()) in workers()
    finally:
        ray.shutdown()
