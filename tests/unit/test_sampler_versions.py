"""With which weights a sampler writes, version after version. vLLM is played: a list says what it was given."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from seal_ray import models
from seal_ray.config import ModelSection, StorageSection
from seal_ray.errors import InfraError
from seal_ray.fleet.samplers import SamplerActor
from seal_ray.policy import versions
from seal_ray.sampling import sampler
from seal_ray.sampling.engine import EngineSettings, GeneratedText, GenerateRequest
from seal_ray.sampling.sampler import EditPrompt, Sampler

MODEL = ModelSection(name="builtin:tiny")


@dataclass
class Played:
    """An engine that writes the name of the weights and the adapter that it writes with."""

    model_dir: str
    settings: EngineSettings
    loaded: set[str] = field(default_factory=set)
    closed: bool = False

    def load(self, adapter: str) -> None:
        self.loaded.add(adapter)

    def forget(self, adapter: str) -> None:
        self.loaded.discard(adapter)

    def close(self) -> None:
        self.closed = True

    def fits(self, ids: Any) -> bool:
        return True

    def generate(self, requests: list[GenerateRequest], adapter: str | None) -> list[GeneratedText]:
        assert not self.closed and (adapter is None or adapter in self.loaded)
        return [GeneratedText((1,), (-1.0,), f"{self.model_dir} {adapter}", "stop") for _ in requests]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Played]:
    made: list[Played] = []

    def engine(folder: str, settings: EngineSettings) -> Played:
        made.append(Played(folder, settings))
        return made[-1]

    monkeypatch.setattr(sampler, "Engine", engine)
    return made


def test_a_version_is_written_with_its_own_weights_whatever_went_before(engines: list[Played]) -> None:
    base = models.fetch(MODEL)
    first = versions.first(models.digest_of(base))
    full, other = (replace(first, number=n, digest=f"full {n}", kind="full") for n in (1, 2))
    adapter = replace(first, number=3, digest="adapter", kind="adapter")
    writer = Sampler(MODEL, EngineSettings())
    writer.start()
    steps = [(first, None), (full, "/full-1"), (first, None), (adapter, "/a"), (other, "/full-2"), (adapter, "/a")]
    steps += [(adapter, "/a"), (first, None)]
    wrote = []
    for version, folder in steps:
        assert writer.load_version(version, folder) == version.digest
        (edit,) = writer.sample([EditPrompt("t", 0, (1, 2), 1)])
        assert edit.version == version.digest
        wrote.append(edit.text)
    own = f"{base} None"
    assert wrote == [own, "/full-1 None", own, f"{base} /a", "/full-2 None", f"{base} /a", f"{base} /a", own]
    assert [e.closed for e in engines] == [True] * 4 + [False], (
        "an engine is started where weights change, and only there"
    )


@pytest.mark.parametrize("kind", ["full", "adapter"])
def test_the_first_engine_of_a_sampler_has_the_weights_that_it_is_to_write_with(
    kind: Any, engines: list[Played]
) -> None:
    base = models.fetch(MODEL)
    version = replace(versions.first(models.digest_of(base)), number=4, digest="v4", kind=kind)
    writer = SamplerActor(MODEL, EngineSettings(), StorageSection())
    assert writer.load_version(version, "/v4") == "v4"
    (edit,) = writer.sample([EditPrompt("t", 0, (1, 2), 1)])
    assert edit.text == ("/v4 None" if kind == "full" else f"{base} /v4")
    assert len(engines) == 1, "an engine was started that nobody has written with"


@pytest.mark.parametrize("kind", ["adapter", "full"])
def test_a_version_without_its_files_is_not_written_with_others(kind: Any, engines: list[Played]) -> None:
    writer = Sampler(MODEL, EngineSettings())
    writer.start()
    version = replace(versions.first("b"), number=1, kind=kind)
    with pytest.raises(InfraError, match="version 1 has weights of its own"):
        writer.load_version(version, None)
