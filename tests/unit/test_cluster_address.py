"""Which cluster a run is to join, as far as that is told by its name."""

import pytest

from seal_ray.config import PlacementSection
from seal_ray.errors import ConfigError
from seal_ray.fleet import cluster


@pytest.mark.parametrize("address", ["ray://head:10001", "http://127.0.0.1:8265"])
@pytest.mark.parametrize("by", ["setting", "environment"])
def test_what_no_driver_joins_is_refused_with_what_to_do(
    address: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address if by == "environment" else "head:6379")
    section = PlacementSection(address="auto" if by == "environment" else address)
    with pytest.raises(ConfigError, match="no address that a driver joins") as raised:
        cluster.connect(section)
    assert address in str(raised.value) and "seal-ray submit" in raised.value.hint


@pytest.mark.parametrize(
    ("address", "environment", "elsewhere"),
    [
        ("auto", "", False),  # one that is running here, or a new one
        ("auto", "head:6379", True),  # as in a submitted job
        ("head:6379", "", True),
        ("local", "head:6379", False),
    ],
)
def test_a_cluster_that_was_named_may_be_other_machines(
    address: str, environment: str, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", environment)
    assert cluster.is_elsewhere(PlacementSection(address=address)) is elsewhere
