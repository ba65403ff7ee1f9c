"""A model's name becomes a folder on this node, and the folder a frozen model, a tokenizer, a digest, token ids.

Weights are safetensors, nothing else; code that comes with a model runs only where the configuration asks for it.
Importing this module imports neither torch nor transformers.
"""

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seal_ray.builtin import BUILTINS, TINY, recipe_of
from seal_ray.errors import ConfigError, DataError, InfraError
from seal_ray.model_cache import Cache, default_root
from seal_ray.model_shapes import KNOWN_SHAPES, Shape, known_shape, shape_of_config, shape_of_folder
from seal_ray.records import Prompt

if TYPE_CHECKING:
    from seal_ray.config import ModelSection, StorageSection
    from seal_ray.storage.entries import Entry
    from seal_ray.storage.store import Store

__all__ = [
    "KNOWN_SHAPES",
    "adapter_rank",
    "check",
    "digest_of",
    "fetch",
    "has_chat_template",
    "load",
    "pick_dtype",
    "reach",
    "render",
    "shape",
    "tokenizer",
]

log = logging.getLogger(__name__)

WANTED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
UNWANTED = ("original/*", "consolidated*", "onnx/*", "*.md")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
NETWORK_SECONDS = 30


# A name becomes a folder


def fetch(section: "ModelSection", storage: "StorageSection | None" = None) -> str:
    """The folder of a model on this node, with safetensors, configuration and tokenizer, all checked.

    Everything but a local folder goes through the node's cache: one process fetches, the others wait for it.
    """
    name = section.name
    if name.startswith("builtin:"):
        folder = _builtin(section)
    elif "://" in name and not name.startswith("file://"):
        folder = _from_store(section, storage)
    elif _is_path(name):
        folder = Path(name.removeprefix("file://")).expanduser().absolute()
    else:
        folder = _from_hub(section)
    check(folder, f"model.name: {name}", trust_remote_code=section.trust_remote_code)
    return str(folder)


def reach(section: "ModelSection", storage: "StorageSection | None" = None) -> str:
    """What stands behind a model's name, found without fetching its weights; raises as `fetch` would."""
    name = section.name
    if name.startswith("builtin:") or ("://" not in name and _is_path(name)) or name.startswith("file://"):
        return fetch(section, storage)
    if "://" in name:
        from seal_ray.storage.store import Store

        with closing(Store(name, storage)) as store:
            return f"{len(_stored(section, store))} files under {name}"
    from huggingface_hub import HfApi

    with _hub_errors(section):
        api = HfApi(endpoint=section.mirror or None, token=os.environ.get("HF_TOKEN") or False)
        return f"{name} at {_commit(section, _cache(section), api)[:12]}"


def _is_path(name: str) -> bool:
    local = name.removeprefix("file://")
    return local.startswith(("/", ".", "~")) or os.path.isdir(local) or not HUB_ID.match(name)


def _cache(section: "ModelSection") -> Cache:
    return Cache(section.cache, section.cache_gb)


def _builtin(section: "ModelSection") -> Path:
    if section.name not in BUILTINS:
        raise ConfigError(f"model.name: there is no {section.name}", mend=f"use one of {', '.join(BUILTINS)}")
    cache = _cache(section)
    return cache.take(cache.key(section.name, recipe_of(section.name)), BUILTINS[section.name])


def _from_store(section: "ModelSection", storage: "StorageSection | None") -> Path:
    from seal_ray.storage.store import Store

    store = Store(section.name, storage)
    try:
        wanted = _stored(section, store)
        cache = _cache(section)
        # a folder that is written anew gets a new entry
        stamp = "\n".join(f"{e.path} {e.size} {e.etag}" for e in wanted)

        def make(folder: Path) -> None:
            store.download([(e.path, e.path, e.size) for e in wanted], folder)

        return cache.take(cache.key(section.name, stamp), make)
    finally:
        store.close()


def _stored(section: "ModelSection", store: "Store") -> "list[Entry]":
    """The files of a model in a store, refused where they are none."""
    there = [e for e in store.list() if "/" not in e.path]
    patterns = (*WANTED, "*.py") if section.trust_remote_code else WANTED
    wanted = sorted((e for e in there if any(fnmatch(e.path, p) for p in patterns)), key=lambda e: e.path)
    if not wanted:
        raise DataError(f"model.name: no model is stored under {section.name}", mend="check bucket and folder")
    _check_names({e.path for e in there}, f"model.name: {section.name}")
    return wanted


def _from_hub(section: "ModelSection") -> Path:
    from huggingface_hub import HfApi, snapshot_download

    name, cache = section.name, _cache(section)
    token = os.environ.get("HF_TOKEN") or False
    wanted: list[str] = [*WANTED, *(["*.py"] if section.trust_remote_code else [])]
    with _hub_errors(section):
        commit = _commit(section, cache, HfApi(endpoint=section.mirror or None, token=token))

        def make(folder: Path) -> None:
            snapshot_download(
                name,
                revision=commit,
                local_dir=folder,
                endpoint=section.mirror or None,
                token=token,
                allow_patterns=wanted,
                ignore_patterns=list(UNWANTED),
                etag_timeout=NETWORK_SECONDS,
            )
            _drop_hub_notes(folder)

        return cache.take(cache.key(name, commit), make)


@contextmanager
def _hub_errors(section: "ModelSection") -> Iterator[None]:
    """What a hub says, as errors of ours."""
    from huggingface_hub import errors as hub

    name, where = section.name, section.mirror or "the hub"
    try:
        yield
    except hub.GatedRepoError:
        raise ConfigError(
            f"model.name: {name} is gated and {where} did not accept the token in HF_TOKEN",
            mend="ask for access on the model's page and set HF_TOKEN to a token that may read it",
        ) from None
    except hub.RevisionNotFoundError:
        raise ConfigError(
            f"model.revision: {name} has no revision {section.revision} at {where}", mend="check model.revision"
        ) from None
    except hub.RepositoryNotFoundError:
        raise ConfigError(
            f"model.name: {name} is neither a folder here nor a model at {where}",
            mend="check the name; for a private or gated model set HF_TOKEN; a folder's name begins with ./ or /",
        ) from None
    except _network_errors() as error:
        raise InfraError(
            f"model.name: {name} can't be fetched from {where} ({type(error).__name__})",
            mend="check the network, set model.mirror, or name a folder or an s3:// URI that holds the model",
        ) from None


def _commit(section: "ModelSection", cache: Cache, api: Any) -> str:
    """The commit that a revision stands for: the hub's word, or without a network what it was the last time."""
    from huggingface_hub import errors as hub

    if re.fullmatch(r"[0-9a-f]{40}", section.revision):
        return section.revision
    note = cache.root / "revisions" / (cache.key(section.name, section.revision) + ".txt")
    try:
        info = api.model_info(section.name, revision=section.revision, timeout=NETWORK_SECONDS)
    except (hub.GatedRepoError, hub.RepositoryNotFoundError, hub.RevisionNotFoundError):
        raise
    except _network_errors() as error:
        if note.exists() and cache.held(cache.key(section.name, note.read_text())):
            log.warning("%s: no network (%s); the copy on this node is used", section.name, type(error).__name__)
            return note.read_text()
        raise InfraError(
            f"model.name: {section.name} is not on this node and {section.mirror or 'the hub'} can't be reached "
            f"({type(error).__name__})",
            mend="check the network, set model.mirror, or name a folder or an s3:// URI that holds the model",
        ) from None
    if info.siblings:
        _check_names({file.rfilename for file in info.siblings}, f"model.name: {section.name}")
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(info.sha)
    return info.sha


def _network_errors() -> tuple[type[BaseException], ...]:
    from huggingface_hub import errors as hub

    # the hub's own error descends from that of the HTTP library which it was built on
    below = next(c for c in hub.HfHubHTTPError.__mro__ if c.__name__ == "HTTPError")
    return below, hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError, ConnectionError, TimeoutError


def _drop_hub_notes(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder / ".cache", ignore_errors=True)


def check(folder: str | Path, where: str, *, trust_remote_code: bool = False) -> None:
    """Refuse a folder that is not a whole model in safetensors, and say what is missing."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{where}: there is no folder {folder}", mend="name a folder with a model, a hub id or builtin:smollm2-135m"
        )
    names = {p.name for p in folder.iterdir()}
    if "adapter_config.json" in names and "config.json" not in names:
        raise DataError(f"{where}: {folder} holds an adapter, not a model", mend="name the base model")
    if "config.json" not in names:
        raise DataError(f"{where}: {folder} has no config.json", mend="name the folder that holds the model's files")
    config = _read_json(folder / "config.json", where)
    if config.get("auto_map") and not trust_remote_code:
        raise ConfigError(
            f"{where}: the model comes with code of its own, which is not run unasked",
            mend="set model.trust_remote_code: true if you trust it",
        )
    _check_names(names, where)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        missing = sorted(set(_read_json(index, where).get("weight_map", {}).values()) - names)
        if missing:
            raise DataError(f"{where}: {len(missing)} of its files are missing, the first is {missing[0]}")
    for weight in sorted(folder.glob("*.safetensors")):
        header_of(weight)


def _check_names(names: set[str], where: str) -> None:
    """Weights in safetensors and a tokenizer must be among a model's files."""
    if not any(n.endswith(".safetensors") for n in names):
        pickled = sorted(n for n in names if n.endswith(PICKLED))
        if pickled:
            raise DataError(
                f"{where}: its weights are pickled ({pickled[0]}), which can run code when they are read",
                mend="convert them to safetensors (save_pretrained of a recent transformers does)",
            )
        raise DataError(f"{where}: no *.safetensors is there", mend="fetch the model's weights again")
    if not names & {"tokenizer.json", "tokenizer.model", "vocab.json"}:
        raise DataError(f"{where}: no tokenizer is there", mend="put tokenizer.json beside the weights")


def header_of(path: Path) -> dict[str, Any]:
    """The names, types and shapes in a safetensors file, which must be as long as they say."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size, 100_000_000):
            raise DataError(f"{path}: not a safetensors file", mend="fetch it again")
        try:
            header = json.loads(file.read(length))
            end = max((t["data_offsets"][1] for n, t in header.items() if n != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise DataError(f"{path}: not a safetensors file", mend="fetch it again") from None
    if 8 + length + end != size:
        raise DataError(f"{path}: has {size} bytes where its header promises {8 + length + end}", mend="fetch it again")
    return header


def _read_json(path: Path, where: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: {path} can't be read: {error}", mend="fetch the model again") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: {path} is not a JSON object", mend="fetch the model again")
    return value


# A folder becomes a digest and sizes


def digest_of(folder: str | Path) -> str:
    """The name of a model's content: over the digests of its files, each read once and remembered by size and time."""
    folder = Path(folder).absolute()
    files = sorted(p for p in folder.iterdir() if p.is_file() and any(p.match(w) for w in (*WANTED, "*.py")))
    if not files:
        raise DataError(f"{folder}: no model is there", mend="name a folder with a model")
    stamps = {p.name: [p.stat().st_size, p.stat().st_mtime_ns] for p in files}
    note = default_root() / "digests" / f"{sha256(str(folder).encode()).hexdigest()[:32]}.json"
    try:
        seen = json.loads(note.read_text())
        if seen["files"] == stamps:
            return str(seen["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not read before, or changed since: read it now
    lines = [f"{p.name} {_file_digest(p)}" for p in files]
    digest = sha256("\n".join(lines).encode()).hexdigest()
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        part = note.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps({"folder": str(folder), "files": stamps, "digest": digest}))
        os.replace(part, note)
    except OSError as error:
        log.info("the digest of %s is not remembered: %s", folder, error)
    return digest


def _file_digest(path: Path) -> str:
    from hashlib import file_digest

    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def shape(name_or_folder: str | Path) -> Shape:
    """Sizes of a model as plain numbers, without torch: of a folder, or of a well-known name without its files."""
    name = str(name_or_folder)
    if name == "builtin:tiny":
        return shape_of_config(TINY, name)
    if os.path.isdir(name):
        return shape_of_folder(name)
    known = known_shape(name)
    if known is None:
        raise DataError(
            f"the sizes of {name} are not known before it is fetched",
            mend=f"fetch it first, or use one of {', '.join(KNOWN_SHAPES)}",
        )
    return known


# A folder becomes a model and a tokenizer


def pick_dtype(name: str, device: str) -> str:
    """float32 or bfloat16; "auto" is bfloat16 where the device computes in it."""
    if name != "auto":
        return name
    if device.startswith("cuda"):
        import torch

        return "bfloat16" if torch.cuda.get_device_capability(torch.device(device))[0] >= 8 else "float32"
    return "bfloat16" if _cpu_flags() & {"avx512_bf16", "amx_bf16"} else "float32"


def _cpu_flags() -> set[str]:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.split(":", 1)[1].split())
    except OSError:
        pass  # not Linux: the slower type is the safe one
    return set()


def load(
    folder: str | Path,
    *,
    dtype: str = "auto",
    device: str = "cpu",
    adapter: str | None = None,
    quantization: str = "none",
    trust_remote_code: bool = False,
) -> Any:
    """The model of a folder, frozen, in evaluation mode; with an adapter a PeftModel whose every module matched."""
    import torch
    from transformers import AutoModelForCausalLM

    check(folder, str(folder), trust_remote_code=trust_remote_code)
    kind = getattr(torch, pick_dtype(dtype, device))
    extra: dict[str, Any] = {}
    if quantization != "none":
        extra = {"quantization_config": _bitsandbytes(quantization, kind), "device_map": {"": device}}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=kind,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            attn_implementation="sdpa",
            **extra,
        )
    except (ValueError, KeyError) as error:
        raise DataError(f"{folder}: transformers can't load this model: {error}") from error
    if not extra:
        model.to(torch.device(device))  # type: ignore[arg-type]
    if adapter is not None:
        model = _with_adapter(model, adapter)
    model.requires_grad_(False)
    return model.eval()


def _with_adapter(model: Any, adapter: str) -> Any:
    from peft import PeftModel

    weights = Path(adapter) / "adapter_model.safetensors"
    if not weights.exists():
        raise DataError(f"{adapter}: no adapter_model.safetensors", mend="name a folder with an adapter in safetensors")
    held = {n for n in header_of(weights) if n != "__metadata__"}
    model = PeftModel.from_pretrained(model, adapter, is_trainable=False, autocast_adapter_dtype=False)
    for name, weight in model.named_parameters():
        if "lora_" in name:  # a frozen adapter computes in the base's type: kept in float32 it doubles a step's time
            weight.data = weight.data.to(model.dtype)
    there = {n.replace(".default", "") for n in model.state_dict() if "lora_" in n}
    if held != there:
        strange = sorted(held ^ there)
        raise DataError(
            f"{adapter}: {len(strange)} of its tensors do not match the model, the first is {strange[0]}",
            mend="use the adapter with the base model that it was trained on",
        )
    return model


def adapter_rank(adapter: str | Path) -> int:
    """The rank of a LoRA adapter in a folder."""
    return int(_read_json(Path(adapter) / "adapter_config.json", str(adapter)).get("r", 0))


def _bitsandbytes(quantization: str, kind: Any) -> Any:
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"model.quantization: {quantization} needs bitsandbytes, which is not installed",
            mend="pip install bitsandbytes on the GPU nodes, or set model.quantization: none",
        )
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=kind,
        bnb_4bit_use_double_quant=True,
    )


def tokenizer(folder: str | Path, *, trust_remote_code: bool = False) -> Any:
    """The model's tokenizer, with a token for padding."""
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=trust_remote_code)
    if made.eos_token_id is None:
        raise DataError(f"{folder}: its tokenizer has no end-of-text token", mend="set eos_token in its configuration")
    if made.pad_token_id is None:
        made.pad_token = made.eos_token
    return made


def has_chat_template(folder: str | Path) -> bool:
    """Whether prompts can be put to this model as a conversation."""
    folder = Path(folder)
    if (folder / "chat_template.jinja").exists() or (folder / "chat_template.json").exists():
        return True
    config = folder / "tokenizer_config.json"
    return config.exists() and bool(_read_json(config, str(folder)).get("chat_template"))


def render(tokenizer: Any, prompt: Prompt) -> list[int]:
    """The token ids of a prompt: a turn of the model's chat template, or bare text begun as the tokenizer begins it."""
    if not prompt.chat:
        text = "\n\n".join(part for part in (prompt.system, prompt.text) if part) + prompt.prefix
        ids = list(tokenizer(text)["input_ids"])
        if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
            ids.pop()  # some tokenizers end every text; a prompt goes on
        return ids
    turns = [{"role": "system", "content": prompt.system}] if prompt.system else []
    turns.append({"role": "user", "content": prompt.text})
    try:
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    except ValueError as error:
        raise ConfigError(
            f"model.chat: this model has no chat template ({error})", mend="set model.chat: no, or use auto"
        ) from None
    # the template has already written whatever the text begins with
    return list(tokenizer(text + prompt.prefix, add_special_tokens=False)["input_ids"])
