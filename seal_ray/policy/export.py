"""A version as a folder for others: the adapter as PEFT reads it, or merged into a model that needs nothing else.

Merging goes through the base's files tensor by tensor, so it takes the memory of one file and no device. The result is
then loaded and compared with the version itself by log-probabilities on a probe.
"""

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seal_ray import models
from seal_ray.errors import ConfigError, DataError
from seal_ray.policy.version_files import BESIDE_WEIGHTS
from seal_ray.policy.versions import files_digest
from seal_ray.records import ADAPTER, ADAPTER_CONFIG, derive_seed

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "base_model.model."
# nats a token by which a merged model may differ from base and adapter side by side: what rounding its weights costs
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}


@dataclass(frozen=True)
class Exported:
    """What was written, and what the probe said: mean absolute differences of log-probabilities, nats per token."""

    folder: str
    kind: Literal["merged", "adapter"]
    digest: str
    modules: int  # layers of the base that the adapter changes
    probe_tokens: int
    difference: float  # between what was exported and the version
    effect: float  # between the version and its base: what an adapter that silently did nothing would show


def export(
    base: str,
    adapter: str,
    to: str,
    *,
    kind: Literal["merged", "adapter"] = "merged",
    probe: Sequence[Sequence[int]] | None = None,
    trust: bool = False,
) -> Exported:
    """Write a version of `base` and `adapter` to the new folder `to`. It is there whole and verified, or not at all.

    `probe` are texts as token ids; without it, some random ones. `trust`: code that comes with the base may run, and
    goes along with what is merged.
    """
    if kind not in ("merged", "adapter"):
        raise ConfigError(f"export as {kind!r} is not known", hint="use merged or adapter")
    with _whole_or_not_at_all(to) as part:
        changes = _changes(base, adapter)
        if kind == "adapter":
            for name in (ADAPTER, ADAPTER_CONFIG):
                shutil.copyfile(os.path.join(adapter, name), os.path.join(part, name))
        else:
            merge(base, adapter, part)
            for code in sorted(Path(base).glob("*.py")) if trust else ():
                shutil.copyfile(code, os.path.join(part, code.name))
        texts = [list(text) for text in probe] if probe is not None else _random_probe(base)
        difference, effect, tokens = _compare(base, adapter, part, kind, texts, trust)
    return Exported(to, kind, files_digest(to), len(changes), tokens, difference, effect)


def export_full(
    base: str, weights: str, to: str, *, probe: Sequence[Sequence[int]] | None = None, trust: bool = False
) -> Exported:
    """Write a version of full weights, which is a model already, to the new folder `to`."""
    with _whole_or_not_at_all(to) as part:
        shutil.copytree(weights, part, dirs_exist_ok=True)
        texts = [list(text) for text in probe] if probe is not None else _random_probe(base)
        effect, tokens = _apart(base, part, texts, trust)
    layers = sum(n != "__metadata__" for path in Path(to).glob("*.safetensors") for n in models.header_of(path))
    return Exported(to, "merged", files_digest(to), layers, tokens, 0.0, effect)


def check_target(to: str) -> None:
    """A folder that can't be made is found before anything is fetched for it."""
    if os.path.lexists(to):
        raise DataError(f"{to}: already there", hint="export to another folder")
    with _writing(to):
        above = next(folder for folder in Path(to).absolute().parents if folder.exists())
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{above} is no folder")
        if not os.access(above, os.W_OK):
            raise PermissionError(errno.EACCES, f"{above} takes no new folder")


@contextlib.contextmanager
def _writing(to: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{to} can't be written: {error.strerror}", hint="name another folder with --to") from None


@contextlib.contextmanager
def _whole_or_not_at_all(to: str) -> Iterator[str]:
    """A folder to write in: the new folder `to` where all goes well, gone where something does not."""
    check_target(to)
    part = f"{to.rstrip('/')}.{uuid.uuid4().hex}.part"  # whatever is called TARGET.part is somebody else's
    try:
        with _writing(to):
            os.makedirs(part)
        yield part
        with _writing(to):
            os.rename(part, to)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def merge(base: str, adapter: str, to: str) -> None:
    """The files of the base with the adapter's change added to its weights, each in the type that it had."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    changes = _changes(base, adapter)
    weights = load_file(os.path.join(adapter, ADAPTER))
    for path in sorted(Path(base).iterdir()):
        if path.name.startswith("consolidated"):  # Mistral's own copy of the weights, which vLLM would rather take
            continue
        if path.suffix in BESIDE_WEIGHTS:
            shutil.copyfile(path, os.path.join(to, path.name))
        if path.suffix != ".safetensors":
            continue
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            notes = file.metadata()
        for name, tensor in tensors.items():
            if name in changes:
                tensors[name] = (tensor.float() + changes[name].of(weights)).to(tensor.dtype)
        save_file(tensors, os.path.join(to, path.name), metadata=notes or {"format": "pt"})


@dataclass(frozen=True)
class _Change:
    """What the adapter adds to one weight of the base."""

    module: str
    scale: float
    transposed: bool

    def of(self, weights: "dict[str, Tensor]") -> "Tensor":
        down, up = (weights[f"{PREFIX}{self.module}.lora_{x}.weight"].float() for x in "AB")
        change = self.scale * (up @ down)
        return change.T if self.transposed else change


def _changes(base: str, adapter: str) -> dict[str, _Change]:
    """For each weight of the base that the adapter changes: how. An adapter that does not fit is refused."""
    config = adapter_config(adapter)
    rank, alpha = config["r"], config["lora_alpha"]
    scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
    held = {n for n in models.header_of(Path(adapter) / ADAPTER) if n != "__metadata__"}
    there = {
        n: header["shape"]
        for path in Path(base).glob("*.safetensors")
        for n, header in models.header_of(path).items()
        if n != "__metadata__"
    }
    changes, used = {}, set()
    for name in sorted(held):
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        partner = name.replace(".lora_A.", ".lora_B.")
        if f"{module}.weight" in there and partner in held:
            changes[f"{module}.weight"] = _Change(module, scale, bool(config.get("fan_in_fan_out")))
            used |= {name, partner}
    if not changes or used != held:
        strange = sorted(held - used)
        raise DataError(
            f"{adapter}: {len(strange)} of its {len(held)} tensors match no layer of {base}"
            + (f", the first is {strange[0]}" if strange else ""),
            hint="export with the base model that the version was trained on",
        )
    return changes


def adapter_config(adapter: str) -> dict[str, Any]:
    """The configuration of an adapter that is plain LoRA; refuses any other."""
    path = Path(adapter) / ADAPTER_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no adapter's configuration: {error}", hint="name the folder of a version") from None
    odd = [k for k in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save") if config.get(k)]
    if odd or config.get("peft_type") != "LORA" or config.get("bias", "none") != "none":
        raise DataError(
            f"{path}: only plain LoRA can be merged, and this one has {', '.join(odd) or config.get('peft_type')}",
            hint="export it as adapter",
        )
    return config


def _random_probe(base: str) -> list[list[int]]:
    import random

    size = models.shape(base).vocabulary
    return [[random.Random(derive_seed("probe", i, j)).randrange(size) for j in range(32)] for i in range(4)]


def _compare(
    base: str, adapter: str, exported: str, kind: str, probe: list[list[int]], trust: bool
) -> tuple[float, float, int]:
    """Difference and effect on the probe (see `Exported`), refused if the export is not the version."""
    whole = _load(base, adapter, trust=trust)
    version = _scores(whole, probe)
    with whole.disable_adapter():
        plain = _scores(whole, probe)
    del whole
    ours = _scores(_load(base, exported, trust=trust) if kind == "adapter" else _load(exported, trust=trust), probe)
    difference, effect = (float((x - version).abs().mean()) for x in (ours, plain))
    kept_as = _type_of(exported if kind == "merged" else base)
    if not difference <= TOLERANCE.get(kept_as, 0.1):
        raise DataError(
            f"{exported}: the export differs from the version by {difference:.4f} nats a token "
            f"(the version from its base by {effect:.4f})",
            hint="do not use it; export again, and report it if it happens again",
        )
    return difference, effect, len(version)


def _apart(base: str, other: str, probe: list[list[int]], trust: bool) -> tuple[float, int]:
    """Nats a token by which two models differ on the probe, and its number of tokens."""
    plain, ours = (_scores(_load(folder, trust=trust), probe) for folder in (base, other))
    return float((ours - plain).abs().mean()), len(plain)


def _load(folder: str, adapter: str | None = None, *, trust: bool = False) -> Any:
    return models.load(folder, dtype="float32", adapter=adapter, trust_remote_code=trust)


def _scores(model: Any, probe: list[list[int]]) -> "Tensor":
    """The log-probability of every token of the probe but each text's first."""
    import torch

    from seal_ray.policy.learner import pack, token_scores
    from seal_ray.policy.lessons import lesson_text

    row = pack([lesson_text((), text) for text in probe])
    with torch.no_grad():
        out = model(input_ids=row.ids, position_ids=row.positions, attention_mask=None, use_cache=False)
        return token_scores(out.logits[0, row.keep], row.targets)[0]


def _type_of(folder: str) -> str:
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")
