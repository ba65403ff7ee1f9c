"""How values stand in objects: canonical JSON with a schema version and a digest, so that nothing damaged is believed.

A part is one JSON object around a value. A segment is JSON lines: a header, then one record a line. The digest of
either covers all of it, its own path in the run included: an object that was copied over another is not believed.
(Schema 1 had the digest over the value or the lines alone. It is read, and checked as far as it can be.)
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seal_ray.errors import LedgerError
from seal_ray.records import Json, canonical
from seal_ray.storage.forms import misfit

SCHEMA = 2
# From a schema version to the next one: (path of the part, or kind of the record; old value) -> new value.
MIGRATIONS: dict[int, Callable[[str, Json], Json]] = {1: lambda name, value: value}


class Damaged(LedgerError):
    """An object's bytes are not what was written."""


def text(value: Any) -> str:
    """The same as `records.canonical`, several times faster for records: the JSON encoder walks them itself."""
    return json.dumps(value, default=_plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return vars(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not plain data")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def line_digest(line: bytes) -> bytes:
    """What a record's line is known by when a round's records are counted."""
    return hashlib.sha256(line).digest()


def pack_part(path: str, epoch: int, value: Json) -> bytes:
    body = canonical(value)
    envelope = {"schema": SCHEMA, "path": path, "epoch": epoch}
    envelope["digest"] = _part_digest(envelope, body)
    return f'{canonical(envelope)[:-1]},"value":{body}}}\n'.encode()


def _part_digest(envelope: Mapping[str, Json], body: str) -> str:
    return sha256(f"{canonical(dict(envelope))}\n{body}".encode())


def unpack_part(data: bytes, path: str, uri: str) -> tuple[Json, int]:
    """The value and the epoch of whoever wrote it; `Damaged` if the bytes are not what was written at that path."""
    try:
        envelope = json.loads(data)
        value, digest, schema = (envelope.pop(k) for k in ("value", "digest", "schema"))
        epoch, body = envelope["epoch"], canonical(value)
        whole = isinstance(schema, int) and isinstance(epoch, int) and not isinstance(epoch, bool)
        if schema == 1:
            name = envelope["name"]
            whole = whole and digest == sha256(f"{name}\n{epoch}\n{body}".encode()) and _named_so(path, name)
        else:
            whole = whole and digest == _part_digest({"schema": schema, **envelope}, body)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Damaged(f"{uri} is damaged: it is no part of a ledger", hint=DAMAGE_HINT) from None
    if not whole:
        raise Damaged(f"{uri} is damaged: its content is not what its digest names", hint=DAMAGE_HINT)
    if schema > 1 and envelope["path"] != path:
        raise Damaged(f"{uri} is damaged: it is a copy of {envelope['path']}", hint=DAMAGE_HINT)
    check_schema(schema, uri)
    value = migrate(path, schema, value)
    if what := misfit(path, value):
        raise Damaged(f"{uri} is damaged: {what}", hint=DAMAGE_HINT)
    return value, epoch


def _named_so(path: str, name: Json) -> bool:
    """Whether a part of schema 1, which knew its name but not its round, may stand there."""
    last = re.sub(r"(\.e\d{6}(-\d+)?)?\.json$", ".json", path.rpartition("/")[2])
    return not path.startswith("rounds/") or last == name


def pack_segment(path: str, lines: Sequence[bytes]) -> bytes:
    body = b"\n".join([*lines, b""])
    header: dict[str, Json] = {"schema": SCHEMA, "path": path, "records": len(lines)}
    header["digest"] = _segment_digest(header, body)
    return canonical(header).encode() + b"\n" + body


def _segment_digest(header: Mapping[str, Json], body: bytes) -> str:
    return sha256(canonical(dict(header)).encode() + b"\n" + body)


def unpack_segment(data: bytes, path: str, uri: str) -> tuple[int, list[bytes]]:
    """Schema version and lines; `Damaged` if the bytes are not what was written at that path."""
    first, _, body = data.partition(b"\n")
    try:
        header = json.loads(first)
        digest, count, schema = header.pop("digest"), header["records"], header["schema"]
        whole = isinstance(schema, int) and body.count(b"\n") == count
        if schema == 1:
            stands = re.sub(r".*?([^/]+)/e(\d+)-(\d+)\.jsonl", r"\1 \2 \3", path).split()
            mine = [header["kind"], f"{header['epoch']:06d}", f"{header['number']:08d}"]
            whole, is_here = whole and sha256(body) == digest, mine == stands
        else:
            whole, is_here = whole and _segment_digest(header, body) == digest, header["path"] == path
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Damaged(f"{uri} is damaged: it does not begin like a segment", hint=DAMAGE_HINT) from None
    if not whole:
        raise Damaged(f"{uri} is damaged: its records are not what its digest names", hint=DAMAGE_HINT)
    if not is_here:
        raise Damaged(f"{uri} is damaged: it is another segment", hint=DAMAGE_HINT)
    check_schema(schema, uri)
    return schema, body.split(b"\n")[:-1]


def parsed(lines: Sequence[bytes], uri: str) -> list[Json]:
    """The value of each line of a segment; `Damaged` where one is none, whatever its digest says."""
    try:
        values = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        values = []
    if len(values) != len(lines):
        raise Damaged(f"{uri} is damaged: not every line of it is one JSON value", hint=DAMAGE_HINT)
    return values


def check_schema(schema: int, uri: str) -> None:
    if schema < 1 or isinstance(schema, bool):
        raise Damaged(f"{uri} is damaged: schema version {schema!r}", hint=DAMAGE_HINT)
    if schema > SCHEMA:
        raise LedgerError(
            f"{uri} was written with schema version {schema}, this seal_ray knows up to {SCHEMA}",
            hint="read it with the seal_ray that wrote it, or a newer one",
        )


def migrate(name: str, schema: int, value: Json) -> Json:
    while schema < SCHEMA:
        value = MIGRATIONS[schema](name, value)
        schema += 1
    return value


DAMAGE_HINT = "`seal-ray verify` lists what is damaged; what a round lacks is done again when the run goes on"
