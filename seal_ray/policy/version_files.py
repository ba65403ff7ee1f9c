"""A new version's files as they leave the worker that has them: an adapter's two, or full weights shard by shard."""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from seal_ray.records import ADAPTER, ADAPTER_CONFIG

BESIDE_WEIGHTS = {".json", ".model", ".txt", ".jinja"}
SHARD = 4 * 2**30  # bytes of one file of full weights
PIECE = 64 * 2**20  # bytes of a file that travel at once

Send = Callable[[str, str], None]  # a file's name, and its path on this node


def pieces(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """A file's content, each piece with where it begins."""
    with open(path, "rb") as file:
        while data := file.read(PIECE):
            yield file.tell() - len(data), data


def send_adapter(tensors: dict[str, Any], config: bytes, send: Send) -> None:
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory(prefix="seal-ray-version-") as folder:
        save_file(tensors, os.path.join(folder, ADAPTER), metadata={"format": "pt"})
        Path(folder, ADAPTER_CONFIG).write_bytes(config)
        for name in (ADAPTER, ADAPTER_CONFIG):
            send(name, os.path.join(folder, name))


def send_full(weights: Iterable[tuple[str, Any]], base: str, send: Send, *, code: bool = False) -> None:
    """All weights (name and tensor on CPU, one at a time), their index, and what a model's folder holds besides; with
    `code` the model's own code too.
    """
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory(prefix="seal-ray-version-") as folder:
        places: dict[str, str] = {}
        shard: dict[str, Any] = {}
        total = 0

        def close() -> None:
            name = f"model-{len(set(places.values())) + 1:05d}.safetensors"
            path = os.path.join(folder, name)
            save_file(shard, path, metadata={"format": "pt"})
            send(name, path)
            os.remove(path)
            places.update(dict.fromkeys(shard, name))
            shard.clear()

        for name, tensor in weights:
            shard[name] = tensor
            total += tensor.nbytes
            if sum(t.nbytes for t in shard.values()) >= SHARD:
                close()
        if shard:
            close()
        index = Path(folder, "model.safetensors.index.json")
        index.write_text(
            json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=1, sort_keys=True)
        )
        send(index.name, str(index))
    beside = BESIDE_WEIGHTS | ({".py"} if code else set())
    for file in sorted(Path(base).iterdir()):
        if file.is_file() and ".safetensors" not in file.name and file.suffix in beside:
            send(file.name, str(file))
