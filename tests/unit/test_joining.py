"""What is said where Ray does not start, or a cluster can't be joined: Ray's own errors there have no type."""

from typing import Any

import pytest
import ray

from seal_ray.config import PlacementSection
from seal_ray.errors import InfraError, Interrupted
from seal_ray.fleet import cluster

OVERLOADED = (
    "The current node timed out during startup. This could happen because some of the raylet failed to startup or the "
    "GCS has become overloaded."
)


def refuse(patch: pytest.MonkeyPatch, error: BaseException) -> None:
    def init(**_options: Any) -> None:
        raise error

    patch.setattr(ray, "init", init)


@pytest.mark.parametrize(
    "error",
    [
        Exception(OVERLOADED),  # ray/_private/node.py raises it so
        RuntimeError("Failed to start GCS. Last 5 lines of error files: ..."),
        TimeoutError("Timed out after 30 seconds while waiting for node to startup"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_local_cluster_that_does_not_come_up_is_nobodys_mistake_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    refuse(monkeypatch, error)
    with pytest.raises(InfraError) as raised:
        cluster.connect(PlacementSection(address="local"))
    assert str(error).split(".")[0] in raised.value.message and "try again" in raised.value.hint
    assert raised.value.exit_code == 3


def test_a_cluster_that_can_not_be_joined_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_reach", lambda address: None)
    refuse(monkeypatch, RuntimeError("No node on this machine belongs to the cluster. More of that."))
    with pytest.raises(InfraError, match=r"10\.0\.0\.1:6379.*No node on this machine"):
        cluster.connect(PlacementSection(address="10.0.0.1:6379"))


def test_whoever_interrupts_a_start_is_not_told_of_an_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, Interrupted("SIGTERM"))
    with pytest.raises(Interrupted):
        cluster.connect(PlacementSection(address="local"))
