"""The Ray cluster: joining it, and what its nodes have, as plain data."""

import contextlib
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from seal_ray import ray_private
from seal_ray.config import PlacementSection
from seal_ray.errors import ConfigError, InfraError, SealError
from seal_ray.redaction import logger
from seal_ray.sampling import engine
from seal_ray.text import first_line

log = logger(__name__)

# what every process of a run is started with, unless whoever submits the run says otherwise
ENVIRONMENT = {
    **engine.ENVIRONMENT,
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # Each step of a bank takes gigabytes and gives them back. Unless told to keep them, glibc returns them to the
    # system, which has to clear them again: a fifth of a bank's time on CPU. A thread other than the first returns
    # them in any case, unless all share the first one's arena.
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_ARENA_MAX": "1",
    # rows and adapters of ever other sizes leave holes in a GPU's memory, unless its segments can grow
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    # a process that has imported vLLM does without cuDNN's attention; so that all compute alike, all others do as well
    "TORCH_CUDNN_SDPA_DEPRIORITIZED": "1",
}
REACH_SECONDS = 5
# Ray's own 15 leaves a process a thirtieth of a core that anything else wants: a browser beside a small run makes it
# many times longer. With 5 the driver, Ray and whoever sits at the machine still go first.
NICENESS = 5
# A process a core that is started ahead has another environment than any actor, and is of no use to it.
SYSTEM = {"worker_niceness": NICENESS, "prestart_worker_first_driver": False}
CHATTER = (b"Set ray log level from environment variable", b"Failed to determine local IP via external connectivity")
_TYPE = "accelerator_type:"
TOKEN = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN) to the cluster's token"


@dataclass(frozen=True)
class Node:
    """A node: what it has, and how much of that nobody holds."""

    id: str
    name: str
    cpus: float
    gpus: float = 0
    gpu_type: str = ""
    memory: float = 0  # bytes
    free_cpus: float = 0
    free_gpus: float = 0


def environment() -> dict[str, str]:
    return {k: v for k, v in ENVIRONMENT.items() if k not in os.environ}


def connect(section: PlacementSection) -> str:
    """Join the cluster that the configuration names, or start a local one; returns its address.

    A process that has joined one already stays there. A local cluster asks its members for a token and shows no
    dashboard to the network.
    """
    import ray

    if ray.is_initialized():
        return ray.get_runtime_context().gcs_address
    common: dict[str, Any] = {
        "namespace": "seal-ray",
        "runtime_env": {"env_vars": environment()},
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    if section.address == "local":
        return _local(common)
    where = _named(section)
    if "://" in where:  # Ray Client, whose side of the wire sees no node; or the address that jobs are submitted to
        raise ConfigError(
            f"placement.address: {where} is no address that a driver joins",
            hint="use the head's host:port (6379), or have the run driven there: seal-ray submit CONFIG --address URL",
        )
    try:
        _reach(section.address)
    except ConnectionError as error:
        if section.address == "auto" and not os.environ.get("RAY_ADDRESS"):
            return _local(common)
        raise InfraError(
            f"placement.address: no Ray cluster answers at {where} ({_line(error)})",
            hint="check the address, or use placement.address: local",
        ) from None
    _join(section.address, where, common)
    return ray.get_runtime_context().gcs_address


def is_elsewhere(section: PlacementSection) -> bool:
    """Whether a run joins a cluster that was named, and that may well be other machines; told without asking it."""
    return _named(section) not in {"local", "auto"}


def _named(section: PlacementSection) -> str:
    return (os.environ.get("RAY_ADDRESS") or "auto") if section.address == "auto" else section.address


def _join(address: str, where: str, common: dict[str, Any]) -> None:
    """Join a cluster that is there; whoever it refuses is told why."""
    from ray.exceptions import AuthenticationError

    try:
        _init(address=address, **common)
    except AuthenticationError as error:
        raise InfraError(f"placement.address: {where} wants a token ({_line(error)})", hint=TOKEN) from None
    except ConnectionError as error:  # also what a wrong token leads to: Ray does not say which
        raise InfraError(
            f"placement.address: something listens at {where}, but the cluster there can't be joined ({_line(error)})",
            hint=f"{TOKEN}; or the cluster is just going down",
        ) from None
    except RuntimeError as error:
        if "ersion mismatch" in str(error):
            raise InfraError(
                f"placement.address: the cluster at {where} runs other versions: {' '.join(str(error).split())[:300]}",
                hint="use one image, or install the same lock file, on every node and where the driver runs",
            ) from None
        raise InfraError(
            f"placement.address: the cluster at {where} can't be joined ({_line(error)})",
            hint="a driver has to run on one of the cluster's nodes; see `ray status` there, then try again",
        ) from error


def _line(error: Exception) -> str:
    return first_line(error).split(". ")[0][:200]


def _reach(address: str) -> None:
    """Raise at once where nobody answers: Ray itself asks a cluster that is gone for minutes."""
    resolved = ray_private.canonical_address(address)
    host, _, port = resolved.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except (OSError, ValueError):
        raise ConnectionError(f"nothing listens at {resolved}") from None


def _init(**options: Any) -> None:
    """Join, and keep the signal handlers that were there: Ray puts one for SIGTERM in their place."""
    import ray

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with _hushed():
        ray.init(**options)
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Where Ray was told to be quiet it says so on the terminal. All else that is said comes a moment later."""
    if "RAY_BACKEND_LOG_LEVEL" not in os.environ:
        yield
        return
    with tempfile.TemporaryFile() as said:
        terminal = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            said.seek(0)
            for line in said:
                if not any(chatter in line for chatter in CHATTER):
                    os.write(2, line)


def _local(common: dict[str, Any]) -> str:
    import ray

    try:
        _init(address="local", include_dashboard=False, _system_config=SYSTEM, **common)
    except SealError:
        raise  # whoever interrupts
    except Exception as error:  # Ray has no type for a start that fails: its parts raise what they raise
        raise InfraError(
            f"a local Ray cluster did not come up ({_line(error)})",
            hint="this machine may be overloaded, or its disk or memory full: try again when it is less busy, or start "
            "Ray yourself (`ray start --head`) and use placement.address: auto",
        ) from error
    return ray.get_runtime_context().gcs_address


def resources() -> tuple[Node, ...]:
    """The nodes that are alive and will stay, in an order that does not change."""
    import ray

    free = ray_private.free_resources()
    going = leaving_nodes()
    nodes = []
    for node in ray.nodes():
        if not node["Alive"] or node["NodeID"] in going:
            continue
        has, left = node["Resources"], free.get(node["NodeID"], {})
        types = [key[len(_TYPE) :] for key in has if key.startswith(_TYPE)]
        nodes.append(
            Node(
                id=node["NodeID"],
                name=node.get("NodeName") or node["NodeManagerAddress"],
                cpus=has.get("CPU", 0),
                gpus=has.get("GPU", 0),
                gpu_type=types[0] if types else "",
                memory=has.get("memory", 0),
                free_cpus=left.get("CPU", 0),
                free_gpus=left.get("GPU", 0),
            )
        )
    return tuple(sorted(nodes, key=lambda n: n.id))


def leaving_nodes() -> dict[str, str]:
    """Nodes that are gone, or have announced that they will be drained, and why."""
    import ray

    going = {
        n["NodeID"]: f"its node is gone ({n.get('DeathReasonMessage') or 'no reason given'})"
        for n in ray.nodes()
        if not n["Alive"]
    }
    for node in ray_private.draining_nodes():
        going.setdefault(node, "its node will be drained")
    return going
