"""A run of two committed rounds, whose versions are adapters of the recorded run; no model is run for it."""

from pathlib import Path

from seal_ray import config_file, models
from seal_ray.policy import versions
from seal_ray.records import ADAPTER, ADAPTER_CONFIG, Version, digest, encode
from seal_ray.storage.ledger import Ledger

RECORDED = Path(__file__).parents[1] / "recorded/v0.1.0"


def adapter(folder: Path, scale: float) -> Path:
    """An adapter of the recorded run, its effect made larger."""
    from safetensors.torch import load_file, save_file

    source = next((RECORDED / "run/rounds/0001/version").iterdir())
    folder.mkdir()
    (folder / ADAPTER_CONFIG).write_bytes((source / ADAPTER_CONFIG).read_bytes())
    tensors = load_file(source / ADAPTER)
    save_file({n: t * scale if "lora_B" in n else t for n, t in tensors.items()}, folder / ADAPTER)
    return folder


def two_versions(uri: str, folder: Path, *changes: str, decision: str = "accept") -> None:
    """Each round's version is what the one before became; their files are in `folder` too, as made-1 and made-2."""
    config = config_file.load(RECORDED / "job.yaml", [f"run.uri={uri}", *changes])
    ledger = Ledger(uri, config.storage)
    ledger.create(config.model_dump(mode="json"), {}, config.run.seed)
    ledger.acquire("test")
    version = versions.first(models.digest_of(models.fetch(config.model)))
    for number in (1, 2):
        part = ledger.round(number)
        part.put("tasks.json", {"tasks": [], "version": encode(version)})
        made_in = adapter(folder / f"made-{number}", float(number))
        name = digest([version.digest, versions.files_digest(str(made_in))])
        version = Version(number, name, version.base, version.digest, f"rounds/{number:04d}/version", "adapter", 4)
        part.put_dir("version", str(made_in))
        part.put("update.json", {"version": encode(version), "edits": [], "losses": [1.0], "steps": 1, "kl": 0.0})
        part.put("rewards.json", {"rewards": [], "arms": {"base": {}, "context": {}, "edit": {}}, "reliability": {}})
        part.commit({"version": encode(version), "decision": decision})
    ledger.close()
