"""What a version has learned, added to another when it is exported."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from seal_ray import models
from seal_ray.commands.export import SkillRequest, export
from seal_ray.errors import ConfigError
from seal_ray.loops.history import Run, find_version

RECORDED = Path("tests/recorded/v0.1.0/run")


def weights(folder: str) -> dict[str, torch.Tensor]:
    return {n: w for path in Path(folder).glob("*.safetensors") for n, w in load_file(path).items()}


def test_an_export_takes_a_skill_with_its_weight(tmp_path: Path) -> None:
    run = Run(str(RECORDED))
    own = f"{RECORDED}#1"
    plain = export(run, tmp_path / "plain", kind="merged", number=1)
    twice = export(run, tmp_path / "twice", kind="merged", number=1, skill=SkillRequest(own))
    same = export(run, tmp_path / "same", kind="merged", number=1, skill=SkillRequest(own, own, 3.0))
    base = weights(models.fetch(run.config.model))
    once, two, beyond = (weights(e.folder) for e in (plain, twice, same))
    assert any(not torch.equal(once[n], w) for n, w in base.items())
    for name, weight in base.items():
        assert torch.allclose(two[name] - weight, 2 * (once[name] - weight), atol=1e-6), name
        assert torch.allclose(beyond[name], once[name], atol=1e-6), "nothing is learned beyond itself"
    adapter = export(run, tmp_path / "adapter", kind="adapter", number=1, skill=SkillRequest(own))
    assert adapter.effect == pytest.approx(twice.effect, rel=1e-3)


def test_a_skill_that_can_not_be_added_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(str(RECORDED))

    def refused(reference: str) -> str:
        with pytest.raises(ConfigError) as error:
            export(run, tmp_path / "out", kind="merged", number=1, skill=SkillRequest(reference))
        assert not (tmp_path / "out").exists()
        return f"{error.value.message} {error.value.hint}"

    assert "no adapter" in refused(f"{RECORDED}#0")
    assert "no version 9" in refused(f"{RECORDED}#9")
    assert "RUN#N" in refused("somewhere")
    assert "there is no run" in refused(f"{tmp_path}/none#1")
    version, source = find_version(f"{RECORDED}#1", run.storage)
    other = dataclasses.replace(version, base="0" * 64)
    monkeypatch.setattr("seal_ray.commands.export.find_version", lambda *_: (other, source))
    assert "another base model" in refused(f"{RECORDED}#1")


@pytest.mark.parametrize("request_", [SkillRequest(plain=f"{RECORDED}#1"), SkillRequest(weight=0.5)])
def test_how_much_of_a_skill_says_nothing_without_the_skill(request_: SkillRequest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--skill-beyond and --skill-weight") as error:
        export(Run(str(RECORDED)), tmp_path / "out", kind="merged", number=1, skill=request_)
    assert "--skill too" in error.value.hint and not (tmp_path / "out").exists()
