"""Which process that is, beyond doubt: so that a holder that is gone from this machine need not be waited for."""

import os
from collections.abc import Mapping

from seal_ray.records import Json


def this_process() -> dict[str, Json]:
    """Names this process beyond doubt: machine boot, process-id namespace, id and start time."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        return {"boot": boot, "space": os.readlink("/proc/self/ns/pid"), "pid": os.getpid(), "born": _born(os.getpid())}
    except OSError:
        return {}


def is_dead(process: Mapping[str, Json]) -> bool:
    """Whether a holder is gone for certain: it ran where we run and is no more. Saves waiting out its lease."""
    mine = this_process()
    if not mine or any(process.get(k) != mine[k] for k in ("boot", "space")):
        return False
    return _born(process["pid"]) != process["born"]


def _born(pid: int) -> str:
    """When a process started, in ticks since boot; empty for one that has ended, if only its parent must ask."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]
