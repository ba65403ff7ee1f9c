"""Large versions reach a node from where the run keeps them, and not through the driver's memory."""

from pathlib import Path
from typing import Any

import pytest

from seal_ray.config import Config, ModelSection
from seal_ray.errors import ConfigError, InfraError
from seal_ray.models import shared
from seal_ray.models.shared import kept_at, materialise, share
from seal_ray.records import Version
from seal_ray.storage.ledger import Ledger

VERSION = Version(1, "v1", "base", path="rounds/0001/version")


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the object store is not there: whoever would use it is told."""
    monkeypatch.setattr(shared, "LARGE", 10)

    def never(_: Any) -> Any:
        raise AssertionError("through the object store")

    monkeypatch.setattr("ray.put", never)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The files of a version on the driver's machine."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(range(200)))
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def config(tmp_path: Path, weights: Path) -> Config:
    """A run that keeps them as what its first round made."""
    config = Config.model_validate({"run": {"uri": str(tmp_path / "run")}})
    ledger = Ledger(config.run.uri)
    ledger.create({}, {}, 1)
    ledger.acquire("me")
    ledger.round(1).put_dir("version", weights)
    ledger.close()
    return config


def test_a_node_fetches_large_weights_from_the_run(config: Config, weights: Path, tmp_path: Path) -> None:
    handed = share(str(weights), kept_at(config, VERSION))
    assert handed and not handed.files and handed.kept
    for path in weights.iterdir():
        path.rename(tmp_path / f"gone-{path.name}")  # no node sees the driver's folder
    there = Path(materialise(handed, ModelSection(cache=str(tmp_path / "node"))))
    assert (there / "model.safetensors").read_bytes() == bytes(range(200)) and (there / "config.json").exists()


def test_versions_take_no_more_room_than_the_folder_of_models_has_as_configured(
    config: Config, weights: Path, tmp_path: Path
) -> None:
    handed = share(str(weights), kept_at(config, VERSION))
    assert handed
    with pytest.raises(ConfigError, match=r"model\.cache_gb"):
        materialise(handed, ModelSection(cache=str(tmp_path / "node"), cache_gb=100 / 2**30))


def test_what_the_run_keeps_under_that_name_must_be_just_this(config: Config, weights: Path) -> None:
    (weights / "model.safetensors").write_bytes(bytes(200))  # as where the version is another run's
    with pytest.raises(AssertionError, match="object store"):
        share(str(weights), kept_at(config, VERSION))


def test_small_files_and_those_that_nobody_keeps_go_through_the_object_store(
    config: Config, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Version(2, "v2", "base", path="rounds/0002/version")
    with pytest.raises(AssertionError, match="object store"):
        share(str(weights), kept_at(config, elsewhere))
    monkeypatch.setattr(shared, "LARGE", 2**30)
    with pytest.raises(AssertionError, match="object store"):
        share(str(weights), kept_at(config, VERSION))
    assert kept_at(config, Version(0, "v0", "base")) is None and share(None) is None


def test_weights_that_are_gone_or_changed_are_an_error_that_says_where(
    config: Config, weights: Path, tmp_path: Path
) -> None:
    handed = share(str(weights), kept_at(config, VERSION))
    assert handed
    (kept,) = (tmp_path / "run/rounds/0001/version").glob("*/model.safetensors")
    kept.chmod(0o644)
    kept.write_bytes(bytes(200))
    with pytest.raises(InfraError, match=f"can't be fetched from {config.run.uri}"):
        materialise(handed, ModelSection(cache=str(tmp_path / "node")))
    kept.unlink()
    with pytest.raises(InfraError, match=f"can't be fetched from {config.run.uri}"):
        materialise(handed, ModelSection(cache=str(tmp_path / "node")))
