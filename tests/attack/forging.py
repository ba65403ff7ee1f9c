"""Records that are whole by their digests and say what no seal_ray has written: the hand of somebody who knows how.

Nothing vouches for a record but its digest, which anybody can compute. So what stands in one is checked where it is
read, and what is odd there is an error with a message, as damage is.
"""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seal_ray.records import Json, canonical
from seal_ray.storage import codec
from seal_ray.storage.segments import parse

VALUES: list[Json] = [
    None, True, False, -1, 0, 3, 10**19, 10**400, 0.5, float("nan"), float("inf"), "", "x", "rounds",
    "../../etc/passwd", "\x1b]0;a\x07", [], [None], [[]], {}, {"a": 1}, ["x", "x"], "9" * 30, 1e308, -0.0,
]  # fmt: skip


def places(value: Json, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [p for key, child in below for p in places(child, (*path, key))]


def changed(draw: random.Random, value: Json) -> Json:
    """The value with one of its places holding something else, given twice, gone, or under another key."""
    inner = [p for p in places(value) if p]
    if not inner or draw.random() < 0.03:
        return copy.deepcopy(draw.choice(VALUES))
    path = draw.choice(inner)
    holder = value
    for step in path[:-1]:
        holder = holder[step]
    match draw.randrange(10):
        case 0 | 1:
            del holder[path[-1]]
        case 2 if isinstance(holder, list):
            holder.insert(path[-1], copy.deepcopy(holder[path[-1]]))
        case 3 if isinstance(holder, dict):
            holder[draw.choice(["x", "", "task", "id", "value"])] = holder.pop(path[-1])
        case _:
            holder[path[-1]] = copy.deepcopy(draw.choice(VALUES))
    return value


def signed_part(data: bytes, change: Callable[[Json], Json]) -> bytes:
    """A part around the changed value, in its own schema, under the digest that belongs to it."""
    envelope = json.loads(data)
    value = change(envelope.pop("value"))
    schema = envelope.pop("schema")
    envelope.pop("digest")
    body = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if schema == 1:
        digest = codec.sha256(f"{envelope['name']}\n{envelope['epoch']}\n{body}".encode())
    else:
        digest = codec._part_digest({"schema": schema, **envelope}, body)
    head = canonical({"schema": schema, **envelope, "digest": digest})
    return f'{head[:-1]},"value":{body}}}\n'.encode()


def signed_segment(data: bytes, change: Callable[[Json], Json], draw: random.Random) -> bytes:
    """A segment with one of its lines changed, under the digest that belongs to it."""
    first, _, body = data.partition(b"\n")
    header, lines = json.loads(first), body.split(b"\n")[:-1]
    if lines:
        at = draw.randrange(len(lines))
        lines[at] = json.dumps(change(json.loads(lines[at])), separators=(",", ":")).encode()
        if draw.random() < 0.1:
            lines[at] = draw.choice([b"", b"{", b"[" * 3000, b"9" * 5000, b"\xff", b"NaN", b"null"])
    body = b"".join(line + b"\n" for line in lines)
    header["records"] = len(lines)
    del header["digest"]
    header["digest"] = codec.sha256(body) if header["schema"] == 1 else codec._segment_digest(header, body)
    return canonical(header).encode() + b"\n" + body


def forge(draw: random.Random, run: Path) -> str:
    """Change one record of a run and everything that vouches for it. Comes back with its path."""
    files = sorted(f for f in run.rglob("*") if f.suffix in (".json", ".jsonl") and f.name != "adapter_config.json")
    often = [f for f in files if f.parent.name != "events"]
    file = draw.choice(often if draw.random() < 0.8 else files)
    path = file.relative_to(run).as_posix()
    data = file.read_bytes()

    def change(value: Json) -> Json:
        return changed(draw, value)

    file.write_bytes(signed_segment(data, change, draw) if parse(path) else signed_part(data, change))
    vouch(run)
    return path


def vouch(run: Path) -> None:
    """Let every manifest that lists parts say of them what they are now."""
    for manifest in run.glob("rounds/*/manifest*.json"):

        def anew(value: Json) -> Json:
            if isinstance(value, dict) and isinstance(value.get("parts"), list):
                for part in value["parts"]:
                    if isinstance(part, dict) and isinstance(part.get("path"), str) and (run / part["path"]).is_file():
                        data = (run / part["path"]).read_bytes()
                        part["size"], part["sha256"] = len(data), codec.sha256(data)
            return value

        manifest.write_bytes(signed_part(manifest.read_bytes(), anew))
