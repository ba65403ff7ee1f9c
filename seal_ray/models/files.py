"""A model's folder, read without torch: whether it is whole, and how large the model is.

Weights are safetensors, nothing else; code that comes with a model runs only where the configuration asks for it.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seal_ray.errors import ConfigError, DataError
from seal_ray.models.builtin import TINY
from seal_ray.records import ADAPTER_CONFIG
from seal_ray.shapes import KNOWN_SHAPES, Shape, known_shape, shape_of

WANTED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
# of the types that safetensors has; one that is not known here is taken at its word
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16}
BITS |= {"I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64}
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def check(folder: str | Path, where: str, *, trust_remote_code: bool = False) -> None:
    """Refuse a folder that is not a whole model in safetensors, and say what is missing."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{where}: there is no folder {folder}", hint="name a folder with a model, a hub id or builtin:smollm2-135m"
        )
    check_described(folder, where, trust_remote_code=trust_remote_code)
    check_names({p.name for p in folder.iterdir()}, where)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        _check_index(folder, read_json(index, where).get("weight_map"), where)
    for weight in sorted(folder.glob("*.safetensors")):
        header_of(weight)


def check_described(folder: Path, where: str, *, trust_remote_code: bool = False) -> None:
    """Refuse a folder whose configuration is no model's, or wants to run code."""
    names = {p.name for p in folder.iterdir()}
    if ADAPTER_CONFIG in names and "config.json" not in names:
        raise DataError(f"{where}: {folder} holds an adapter, not a model", hint="name the base model")
    if "config.json" not in names:
        raise DataError(f"{where}: {folder} has no config.json", hint="name the folder that holds the model's files")
    config = read_json(folder / "config.json", where)
    if config.get("auto_map") and not trust_remote_code:
        raise ConfigError(
            f"{where}: the model comes with code of its own, which is not run unasked",
            hint="set model.trust_remote_code: true if you trust it",
        )


def _check_index(folder: Path, weights: Any, where: str) -> None:
    """An index must name files of this folder, all of them there, that hold what it says they hold."""
    if not isinstance(weights, dict) or not all(isinstance(file, str) for file in weights.values()):
        raise DataError(f"{where}: its index of weights names no files", hint="fetch the model again")
    held: dict[str, dict[str, Any]] = {}
    for file in sorted(set(weights.values())):
        if "/" in file or "\\" in file or not file.endswith(".safetensors"):
            raise DataError(
                f"{where}: its index names {file[:100]!r}, which is no file beside it", hint="fetch it again"
            )
        if not (folder / file).is_file():
            raise DataError(f"{where}: its file {file[:100]} is missing", hint="fetch the model again")
        held[file] = header_of(folder / file)
    wrong = sorted(name for name, file in weights.items() if name not in held[file])
    if wrong:
        raise DataError(
            f"{where}: its index says of {len(wrong)} tensors where they are not, the first is {wrong[0][:100]}",
            hint="fetch the model again",
        )


def check_names(names: set[str], where: str) -> None:
    """Weights in safetensors and a tokenizer must be among a model's files."""
    if not any(n.endswith(".safetensors") for n in names):
        pickled = sorted(n for n in names if n.endswith(PICKLED))
        if pickled:
            raise DataError(
                f"{where}: its weights are pickled ({pickled[0]}), which can run code when they are read",
                hint="convert them to safetensors (save_pretrained of a recent transformers does)",
            )
        raise DataError(f"{where}: no *.safetensors is there", hint="fetch the model's weights again")
    if not names & {"tokenizer.json", "tokenizer.model", "vocab.json"}:
        raise DataError(f"{where}: no tokenizer is there", hint="put tokenizer.json beside the weights")


def header_of(path: Path) -> dict[str, Any]:
    """The names, types and shapes in a safetensors file, which must be as long as they say."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size, 100_000_000):
            raise DataError(f"{path}: not a safetensors file", hint="fetch it again")
        try:
            header = json.loads(file.read(length))
            spans = sorted(_span(t) for n, t in header.items() if n != "__metadata__")
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            raise DataError(f"{path}: not a safetensors file", hint="fetch it again") from None
    end = 0
    for begin, after in spans:
        if begin != end:
            raise DataError(f"{path}: its tensors overlap or leave a hole at byte {end}", hint="fetch it again")
        end = after
    if 8 + length + end != size:
        raise DataError(f"{path}: has {size} bytes where its header promises {8 + length + end}", hint="fetch it again")
    return header


def _span(tensor: Any) -> tuple[int, int]:
    """Where a tensor's bytes begin and end; raises where they are not as many as its type and shape want."""
    begin, end = tensor["data_offsets"]
    bits, shape = BITS.get(tensor["dtype"]), tensor["shape"]
    whole = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in (begin, end, *shape))
    if not whole or begin > end or (bits and 8 * (end - begin) != bits * math.prod(shape)):
        raise ValueError("a tensor's bytes are not what its type and shape want")
    return begin, end


def read_json(path: Path, where: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: {path} can't be read: {error}", hint="fetch the model again") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: {path} is not a JSON object", hint="fetch the model again")
    return value


@dataclass(frozen=True)
class ListedFile:
    """A file as its keeper tells of it."""

    name: str
    size: int
    sha256: str = ""  # empty: the keeper does not say


def shape(name_or_folder: str | Path) -> Shape:
    """Sizes of a model, without torch: of a folder, or of a well-known name without its files."""
    name = str(name_or_folder)
    if os.path.isdir(name):
        path = Path(name) / "config.json"
        try:
            return shape_of(read_json(path, "model.name"))
        except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise DataError(
                f"{path}: {error}", hint="use a decoder whose config.json says hidden_size, intermediate_size and so on"
            ) from None
    known = shape_of(TINY) if name == "builtin:tiny" else known_shape(name)
    if known is None:
        raise DataError(
            f"the sizes of {name} are not known before it is fetched",
            hint=f"fetch it first, or use one of {', '.join(KNOWN_SHAPES)}",
        )
    return known


def adapter_rank(adapter: str | Path) -> int:
    """The rank of a LoRA adapter in a folder."""
    rank = read_json(Path(adapter) / ADAPTER_CONFIG, str(adapter)).get("r", 0)
    if type(rank) is not int or rank < 0:
        raise DataError(f"{adapter}: {ADAPTER_CONFIG} has {str(rank)[:40]!r} for a rank", hint="write it again")
    return rank


def has_chat_template(folder: str | Path) -> bool:
    """Whether prompts can be put to this model as a conversation."""
    folder = Path(folder)
    if (folder / "chat_template.jinja").exists() or (folder / "chat_template.json").exists():
        return True
    config = folder / "tokenizer_config.json"
    return config.exists() and bool(read_json(config, str(folder)).get("chat_template"))
