"""A model without its weights: enough for the driver, named as the whole one is, and checked by whoever computes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hub_mirror import COMMIT, serve

from seal_ray import models
from seal_ray.config import AnsweringSection, InnerSection, ModelSection, StorageSection
from seal_ray.errors import DataError, InfraError
from seal_ray.fleet.samplers import SamplerActor
from seal_ray.fleet.worker import Worker, WorkerSettings
from seal_ray.models.names import Described
from seal_ray.policy import versions
from seal_ray.sampling.engine import EngineSettings
from seal_ray.storage.store import Store


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)


def on_hub(url: str, cache: Path, **more: str) -> ModelSection:
    return ModelSection.model_validate(
        {"name": "some/model", "mirror": url, "dtype": "float32", "cache": str(cache), **more}
    )


def weights_asked(asked: list[str]) -> int:
    return sum(path.endswith(".safetensors") for path in asked)


def test_a_description_has_the_digest_of_the_whole_and_its_tokenizer_but_no_weights(tiny: Path, tmp_path: Path) -> None:
    with serve(tiny, "some/model") as (url, asked):
        told = models.describe(on_hub(url, tmp_path / "driver"))
        assert told.digest == models.digest_of(tiny) and not weights_asked(asked)
        ids = models.text_ids(models.tokenizer(told.folder), "a text")
        assert ids == models.text_ids(models.tokenizer(tiny), "a text")
        assert models.weight_bytes(told.folder) == models.weight_bytes(tiny) > 0
        whole = models.fetch(on_hub(url, tmp_path / "worker"), digest=told.digest)
    assert models.digest_of(whole) == told.digest


def test_a_large_tokenizer_that_the_hub_keeps_apart_is_fetched_and_read(tiny: Path, tmp_path: Path) -> None:
    with serve(tiny, "some/model", large=("*.safetensors", "tokenizer.json")) as (url, _):
        told = models.describe(on_hub(url, tmp_path / "driver"))
    assert told.digest == models.digest_of(tiny) and (Path(told.folder) / "tokenizer.json").exists()


def test_a_node_that_has_the_model_is_asked_for_no_description(tiny: Path, tmp_path: Path) -> None:
    with serve(tiny, "some/model") as (url, asked):
        section = on_hub(url, tmp_path / "node")
        whole = models.fetch(section)
        asked.clear()
        assert models.describe(section) == Described(
            whole, models.digest_of(tiny), on_hub(url, tmp_path / "node", revision=COMMIT)
        )
        assert not [path for path in asked if "resolve" in path]


def test_without_a_network_the_description_on_the_node_is_used(tiny: Path, tmp_path: Path) -> None:
    with serve(tiny, "some/model") as (url, _):
        section = on_hub(url, tmp_path / "driver")
        told = models.describe(section)
    assert models.describe(section) == told
    assert models.describe(on_hub(url, tmp_path / "driver", revision=COMMIT)) == told


@pytest.mark.parametrize("look", [models.describe, models.whole])
def test_a_branch_is_the_commit_that_it_stood_for(tiny: Path, tmp_path: Path, look: Any) -> None:
    with serve(tiny, "some/model") as (url, _):
        told = look(on_hub(url, tmp_path / "driver"))
    assert told.section.revision == COMMIT and told.section.name == "some/model"
    assert look(ModelSection(name=str(tiny))).section == ModelSection(name=str(tiny))


def test_a_hub_that_does_not_tell_what_its_weights_are_is_asked_for_them(tiny: Path, tmp_path: Path) -> None:
    with serve(tiny, "some/model", large=()) as (url, asked):
        told = models.describe(on_hub(url, tmp_path / "driver"))
    assert told.digest == models.digest_of(tiny) and weights_asked(asked)


def test_what_a_whole_model_is_refused_for_a_description_is_refused_for_as_well(tiny: Path, tmp_path: Path) -> None:
    (tiny / "model.safetensors").rename(tiny / "pytorch_model.bin")
    with serve(tiny, "some/model") as (url, _), pytest.raises(DataError, match="pickled"):
        models.describe(on_hub(url, tmp_path / "driver", revision=COMMIT))


@pytest.fixture
def liar(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a mirror sends that changed a weight, and told of the weights as they were."""
    import hub_mirror

    sha = hashlib.sha256((tiny / "model.safetensors").read_bytes()).hexdigest()
    real = hub_mirror.told

    def told(file: Path, large: tuple[str, ...]) -> object:
        entry = real(file, large)
        return entry | {"lfs": entry["lfs"] | {"oid": sha}} if "lfs" in entry else entry

    monkeypatch.setattr(hub_mirror, "told", told)
    weights = tiny / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    return tiny


def test_a_mirror_that_lies_is_noticed_by_the_worker_and_the_sampler_and_its_files_are_not_kept(
    liar: Path, tmp_path: Path
) -> None:
    with serve(liar, "some/model") as (url, _):
        version = versions.first(models.describe(on_hub(url, tmp_path / "driver")).digest)
        own = on_hub(url, tmp_path / "worker")
        worker = Worker("worker-1", WorkerSettings(own, StorageSection(), InnerSection(), AnsweringSection()))
        sampler = SamplerActor(own, EngineSettings(device="cpu"), StorageSection())
        for actor in (worker, sampler):
            with pytest.raises(InfraError, match="the run was begun with") as raised:
                actor.load_version(version)
            assert "model.mirror" in raised.value.hint
    assert not [p for p in (tmp_path / "worker/models").iterdir() if p.is_dir()]


def test_a_node_whose_folder_has_other_files_is_refused(tiny: Path) -> None:
    section = ModelSection(name=str(tiny), dtype="float32")
    version = versions.first(models.describe(section).digest)
    worker = Worker("worker-1", WorkerSettings(section, StorageSection(), InnerSection(), AnsweringSection()))
    assert worker.load_version(version) == version.digest
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps(config | {"rope_theta": 12.0}))
    with pytest.raises(InfraError, match="the run was begun with"):
        worker.load_version(version)


# In a store


def stored(tiny: Path, uri: str) -> ModelSection:
    store = Store(uri)
    for path in tiny.iterdir():
        store.create(path.name, path.read_bytes())
    store.close()
    return ModelSection(name=uri, dtype="float32")


def test_a_store_tells_no_digests_so_the_model_is_fetched(tiny: Path, tmp_path: Path) -> None:
    section = stored(tiny, f"memory://models/{tmp_path.name}/plain")
    told = models.describe(section)
    assert told.digest == models.digest_of(tiny) == models.digest_of(models.fetch(section))
    assert list(Path(told.folder).glob("*.safetensors"))


def test_beside_its_checksums_a_model_in_a_store_is_described_without_its_weights(tiny: Path, tmp_path: Path) -> None:
    digest = models.digest_of(tiny)
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}" for p in tiny.iterdir()]
    (tiny / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    section = stored(tiny, f"memory://models/{tmp_path.name}/summed")
    told = models.describe(section)
    assert told.digest == digest and not list(Path(told.folder).glob("*.safetensors"))
    assert models.digest_of(models.fetch(section, digest=told.digest)) == digest


def test_checksums_that_are_not_those_of_the_weights_are_noticed_by_who_fetches(tiny: Path, tmp_path: Path) -> None:
    (tiny / "SHA256SUMS").write_text(f"{'0' * 64} *model.safetensors\n")
    section = stored(tiny, f"memory://models/{tmp_path.name}/wrong")
    with pytest.raises(InfraError, match="begun with"):
        models.fetch(section, digest=models.describe(section).digest)
