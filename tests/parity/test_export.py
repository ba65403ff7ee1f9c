"""An exported version says what the version says, wherever it is loaded: transformers, PEFT, vLLM."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from seal_ray import models
from seal_ray.config import ModelSection, PolicySection
from seal_ray.errors import DataError
from seal_ray.policy import learner, versions
from seal_ray.policy.export import export, export_full
from seal_ray.policy.job import LearnedEdit, UpdateResult
from seal_ray.policy.learner import pack, token_scores
from seal_ray.policy.lessons import LessonText
from seal_ray.policy.packing import LeftOut
from seal_ray.policy.skill import WeightedAdapter, skill, summed
from seal_ray.records import decode, encode

PROBE = [[1, *range(40 + 9 * i, 60 + 9 * i)] for i in range(3)]


def base_folder() -> str:
    return models.fetch(ModelSection(name="builtin:tiny"))


def write_adapter(folder: Path, fresh_on: str | None = None, seed: int = 1) -> Any:
    """An adapter that was trained by chance: random weights large enough to change what the model says."""
    section = PolicySection(rank=8, alpha=16 if fresh_on is None else 40, fresh=fresh_on is not None)
    model = learner.build(base_folder(), fresh_on, section, seed, "float32", "cpu")
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in learner.trainable(model):
            if "lora_B" in name:
                weight.normal_(0, 0.05)
    tensors, config = learner.adapter_files(model, lambda weight: weight.detach().clone())
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_bytes(config)
    return model


@torch.no_grad()
def scores(model: Any) -> torch.Tensor:
    row = pack([LessonText(tuple(p[:1]), tuple(p[1:])) for p in PROBE])
    out = model(input_ids=row.ids, position_ids=row.positions, attention_mask=None, use_cache=False)
    return token_scores(out.logits[0, row.keep], row.targets)[0]


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    write_adapter(tmp_path / "adapter")
    return str(tmp_path / "adapter")


def test_a_merged_export_says_in_transformers_what_the_version_says(adapter: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = export(base_folder(), adapter, str(tmp_path / "out"), probe=PROBE)
    version = scores(models.load(base_folder(), dtype="float32", adapter=adapter))
    assert torch.allclose(scores(AutoModelForCausalLM.from_pretrained(found.folder)), version, atol=1e-4)
    assert found.difference < 1e-4 < 0.05 < found.effect
    assert found.modules == 14 and found.probe_tokens == 60
    assert AutoTokenizer.from_pretrained(found.folder).eos_token_id == 2


def test_an_exported_adapter_says_in_peft_what_the_version_says(adapter: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    found = export(base_folder(), adapter, str(tmp_path / "out"), kind="adapter", probe=PROBE)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_folder()), found.folder)
    version = scores(models.load(base_folder(), dtype="float32", adapter=adapter))
    assert torch.allclose(scores(model), version, atol=1e-5)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("full", [True, False])
def test_a_folder_of_the_users_beside_the_target_stays(full: bool, adapter: str, tmp_path: Path) -> None:
    beside = tmp_path / "out.part"
    beside.mkdir()
    (beside / "thesis.txt").write_text("mine")
    if full:
        export_full(base_folder(), base_folder(), str(tmp_path / "out"), probe=PROBE)
    else:
        export(base_folder(), adapter, str(tmp_path / "out"), probe=PROBE)
    assert (beside / "thesis.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir() and p.name.startswith("out")) == ["out", "out.part"]


def test_a_version_in_bfloat16_is_merged_within_its_precision(adapter: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(base_folder(), base)
    tensors = {n: t.bfloat16() for n, t in load_file(base / "model.safetensors").items()}
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    found = export(str(base), adapter, str(tmp_path / "out"))
    assert 1e-6 < found.difference < 0.1
    merged = load_file(tmp_path / "out" / "model.safetensors")
    assert all(t.dtype == torch.bfloat16 for t in merged.values())


def test_a_copy_of_the_bases_weights_in_mistrals_form_does_not_come_along(adapter: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(base_folder(), base)
    shutil.copyfile(base / "model.safetensors", base / "consolidated.safetensors")
    (base / "consolidated.safetensors.index.json").write_text("{}")
    found = export(str(base), adapter, str(tmp_path / "out"))
    files = {path.name for path in Path(found.folder).iterdir()}
    assert "model.safetensors" in files and not {name for name in files if name.startswith("consolidated")}
    assert found.modules == 14 and found.difference < 1e-4 < 0.05 < found.effect


def test_a_fresh_adapter_on_a_frozen_one_is_written_as_one_that_does_the_same(adapter: str, tmp_path: Path) -> None:
    both = write_adapter(tmp_path / "both", fresh_on=adapter, seed=2)
    one = models.load(base_folder(), dtype="float32", adapter=str(tmp_path / "both"))
    assert one.peft_config["default"].r == 16
    assert torch.allclose(scores(one), scores(both), atol=1e-5)
    assert not torch.allclose(
        scores(one), scores(models.load(base_folder(), dtype="float32", adapter=adapter)), atol=1e-2
    )


def test_only_the_fresh_adapter_learns(adapter: str) -> None:
    model = learner.build(base_folder(), adapter, PolicySection(rank=4, fresh=True), 1, "float32", "cpu")
    assert learner.trainable(model) and all(".fresh." in name for name, _ in learner.trainable(model))


@pytest.mark.parametrize("kind", ["merged", "adapter"])
def test_an_adapter_that_matches_no_layer_is_refused(adapter: str, tmp_path: Path, kind: Any) -> None:
    weights = load_file(Path(adapter) / "adapter_model.safetensors")
    renamed = {n.replace("q_proj", "query"): t for n, t in weights.items()}
    save_file(renamed, Path(adapter) / "adapter_model.safetensors")
    with pytest.raises(DataError, match=r"4 of its 28 tensors match no layer .*query"):
        export(base_folder(), adapter, str(tmp_path / "out"), kind=kind)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter"]


def test_an_export_that_is_not_the_version_is_refused_and_not_left_there(
    adapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge that forgets the adapter: every file is right but for what it says."""
    monkeypatch.setattr("seal_ray.policy.export._Change.of", lambda self, weights: torch.zeros(1))
    with pytest.raises(DataError, match="differs from the version"):
        export(base_folder(), adapter, str(tmp_path / "out"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter"]


def test_an_export_never_overwrites(adapter: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="already there"):
        export(base_folder(), adapter, str(tmp_path / "out"))


@pytest.mark.slow
def test_vllm_says_what_the_version_says_from_either_export(adapter: str, tmp_path: Path) -> None:
    """vLLM runs in a process of its own, as it must not share this one's threads and memory."""
    import subprocess
    import sys

    version = scores(models.load(base_folder(), dtype="float32", adapter=adapter))
    merged = export(base_folder(), adapter, str(tmp_path / "merged"))
    plain = export(base_folder(), adapter, str(tmp_path / "plain"), kind="adapter")
    script = Path(__file__).with_name("vllm_scores.py")
    for model, lora in ((merged.folder, ""), (base_folder(), plain.folder)):
        command = [sys.executable, str(script), model, lora, json.dumps(PROBE)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        found = torch.tensor(json.loads(done.stdout.strip().splitlines()[-1]))
        assert torch.allclose(found, version, atol=5e-3), (found - version).abs().max()


def result_of(folder: str) -> UpdateResult:
    return UpdateResult(
        folder=folder, kind="adapter", rank=8, steps=1, losses=(1.5,), log=(), seconds=1.0, kl=0.01, drift=0.02,
        entropy=2.0, entropy_before=2.1, likelihood=(-1.0,), likelihood_before=(-2.0,), validation_losses=(),
        left_out=(LeftOut("e9", "t9", "too long"),), held_back=(), edits=(LearnedEdit("e1", "t1", 1.0),),
        recipe={"lr": 1e-3}, environment={"torch": "2"},
    )  # fmt: skip


def test_a_version_is_named_by_its_files_and_its_parent(adapter: str, tmp_path: Path) -> None:
    write_adapter(tmp_path / "other", seed=2)
    start = versions.first("base-digest")
    one = versions.make(start, result_of(adapter), 1)
    assert one == versions.make(start, result_of(adapter), 1)
    assert one.digest != versions.make(start, result_of(str(tmp_path / "other")), 1).digest
    assert one.digest != versions.make(versions.first("another base"), result_of(adapter), 1).digest
    assert (one.number, one.parent, one.kind, one.rank, one.path) == (
        1,
        start.digest,
        "adapter",
        8,
        "rounds/0001/version",
    )
    versions.check(one, adapter)
    with pytest.raises(DataError, match="not the files of version 1"):
        versions.check(one, str(tmp_path / "other"))


def test_what_an_update_tells_the_ledger_comes_back_as_it_was(adapter: str) -> None:
    told = versions.told(result_of(adapter))
    assert decode(UpdateResult, json.loads(json.dumps(told)) | {"folder": adapter}) == result_of(adapter)
    assert "folder" not in told


def test_lineage_shows_every_version_under_its_parent_with_what_the_gate_said(adapter: str, tmp_path: Path) -> None:
    write_adapter(tmp_path / "other", seed=2)
    start = versions.first("base-digest")
    one = versions.make(start, result_of(adapter), 1)
    rejected = versions.make(one, result_of(str(tmp_path / "other")), 2)
    third = versions.make(one, result_of(adapter), 3)
    updates = {v.digest: versions.told(result_of(adapter)) for v in (one, rejected, third)}
    gates = {rejected.digest: {"decision": "reject", "figures": {}, "reasons": ["worse"]}}
    roots = versions.lineage([third, start, rejected, one], updates, gates)
    assert len(roots) == 1
    lines = versions.tree(roots).splitlines()
    assert [line.split("version ")[1][0] for line in lines] == ["0", "1", "2", "3"]
    assert lines[2].startswith("   ├─ ") and lines[2].endswith("reject") and "1 edits" in lines[2]
    assert roots[0]["children"][0]["edits"] == [{"edit": "e1", "task": "t1", "weight": 1.0}]
    assert encode(roots) == roots, "the tree is JSON"


def test_a_skill_is_added_as_the_difference_of_two_versions_with_its_weight(adapter: str, tmp_path: Path) -> None:
    write_adapter(tmp_path / "learned", seed=2)
    write_adapter(tmp_path / "plain", seed=3)
    parts = [WeightedAdapter(adapter), *skill(str(tmp_path / "learned"), str(tmp_path / "plain"), 0.5)]
    (tmp_path / "together").mkdir()
    summed(parts, str(tmp_path / "together"))

    def change(folder: str) -> dict[str, torch.Tensor]:
        found = export(base_folder(), folder, f"{folder}-merged", probe=PROBE)
        return load_file(Path(found.folder) / "model.safetensors")

    base = load_file(next(Path(base_folder()).glob("*.safetensors")))
    together = change(str(tmp_path / "together"))
    own = {p.folder: (change(p.folder), p.weight) for p in parts}
    for name, weight in base.items():
        wanted = weight + sum((merged[name] - weight) * share for merged, share in own.values())
        assert torch.allclose(together[name], wanted, atol=1e-5), name
    model = models.load(base_folder(), dtype="float32", adapter=str(tmp_path / "together"))
    assert model.peft_config["default"].r == 24 and scores(model).isfinite().all()


def test_adapters_of_different_layers_add_up_and_those_of_another_model_do_not(adapter: str, tmp_path: Path) -> None:
    write_adapter(tmp_path / "last", seed=4)
    weights = load_file(tmp_path / "last/adapter_model.safetensors")
    last = {n: w for n, w in weights.items() if ".layers.1." in n}
    save_file(last, tmp_path / "last/adapter_model.safetensors", metadata={"format": "pt"})
    (tmp_path / "together").mkdir()
    summed([WeightedAdapter(adapter), WeightedAdapter(str(tmp_path / "last"))], str(tmp_path / "together"))
    assert export(base_folder(), str(tmp_path / "together"), str(tmp_path / "out"), probe=PROBE).modules == 14
    wide = {n: torch.cat([w, w], dim=1) if "lora_A" in n else w for n, w in weights.items()}
    save_file(wide, tmp_path / "last/adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="another shape"):
        summed([WeightedAdapter(adapter), WeightedAdapter(str(tmp_path / "last"))], str(tmp_path / "together"))
