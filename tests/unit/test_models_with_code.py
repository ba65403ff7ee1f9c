"""A model that comes with code of its own, where its code may run: it is trained and exported as it is tried."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from seal_ray import models
from seal_ray.config import ModelSection, PolicySection
from seal_ray.errors import ConfigError
from seal_ray.policy.export import export, export_full
from seal_ray.policy.single_engine import SingleEngine
from seal_ray.policy.version_files import send_full

CODE = "from transformers import LlamaForCausalLM\n\n\nclass OwnForCausalLM(LlamaForCausalLM):\n    pass\n"
SECTION = PolicySection(rank=4, dtype="float32", checkpointing=False)


@pytest.fixture
def with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder whose model is the class of a file beside its weights."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", list(sys.path))  # transformers puts the folder of code into it
    folder = tmp_path / "model"
    shutil.copytree(models.fetch(ModelSection(name="builtin:tiny")), folder)
    (folder / "own_model.py").write_text(CODE)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "own_model.OwnForCausalLM"}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def into(folder: Path) -> Callable[[str, str], None]:
    def send(name: str, path: str) -> None:
        shutil.copyfile(path, folder / name)

    return send


def test_a_version_of_such_a_model_is_trained_and_exported_where_its_code_may_run(
    with_code: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="trust_remote_code"):
        SingleEngine(with_code, None, SECTION, 1, "cpu")
    adapter = tmp_path / "version"
    adapter.mkdir()
    engine = SingleEngine(with_code, None, SECTION, 1, "cpu", trust=True)
    engine.save(into(adapter))
    full = tmp_path / "full"
    full.mkdir()
    weights = load_file(Path(with_code) / "model.safetensors").items()
    send_full(weights, with_code, into(full), code=True)
    assert export_full(with_code, str(full), str(tmp_path / "whole"), trust=True).effect == 0
    for kind in ("adapter", "merged"):
        with pytest.raises(ConfigError, match="trust_remote_code"):
            export(with_code, str(adapter), str(tmp_path / f"not {kind}"), kind=kind)
        made = export(with_code, str(adapter), str(tmp_path / kind), kind=kind, trust=True)
        assert made.modules
    assert (tmp_path / "merged" / "own_model.py").read_text() == CODE
