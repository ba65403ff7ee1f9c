"""How values stand in objects: canonical JSON with a schema version and a digest, so that nothing damaged is believed.

A part is one JSON object around a value. A segment is JSON lines: a header with the digest of what follows, then one
record a line.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seal_ray.errors import LedgerError
from seal_ray.records import Json, canonical

SCHEMA = 1
# From a schema version to the next one: (name of the part or kind of the record, old value) -> new value.
MIGRATIONS: dict[int, Callable[[str, Json], Json]] = {}


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


def pack_part(name: str, epoch: int, value: Json) -> bytes:
    body = canonical(value)
    envelope = {"schema": SCHEMA, "name": name, "epoch": epoch, "digest": _seal(name, epoch, body)}
    return f'{canonical(envelope)[:-1]},"value":{body}}}\n'.encode()


def _seal(name: Json, epoch: Json, body: str) -> str:
    """The digest of a part: of its value, and of whose it is."""
    return sha256(f"{name}\n{epoch}\n{body}".encode())


def unpack_part(data: bytes, uri: str) -> tuple[Json, dict[str, Json]]:
    """The value and its envelope; `Damaged` if the bytes are not whole."""
    try:
        envelope = json.loads(data)
        value, digest, name, schema = (envelope.pop(k) for k in ("value", "digest", "name", "schema"))
        assert isinstance(envelope["epoch"], int)
        whole = _seal(name, envelope["epoch"], canonical(value)) == digest
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError, RecursionError):
        raise Damaged(f"{uri} is damaged: it is no part of a ledger", hint=MEND) from None
    check_schema(schema, uri)
    if not whole:
        raise Damaged(f"{uri} is damaged: its content is not what its digest names", hint=MEND)
    return migrate(name, schema, value), {"name": name, **envelope}


def pack_segment(kind: str, epoch: int, number: int, lines: Sequence[bytes]) -> bytes:
    body = b"\n".join([*lines, b""])
    header = {
        "schema": SCHEMA, "kind": kind, "epoch": epoch, "number": number, "records": len(lines), "digest": sha256(body)
    }  # fmt: skip
    return canonical(header).encode() + b"\n" + body


def unpack_segment(data: bytes, uri: str) -> tuple[dict[str, Json], list[bytes]]:
    """The header and the lines; `Damaged` if the bytes are not whole."""
    first, _, body = data.partition(b"\n")
    try:
        header = json.loads(first)
        digest, count, schema = header["digest"], header["records"], header["schema"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Damaged(f"{uri} is damaged: it does not begin like a segment", hint=MEND) from None
    check_schema(schema, uri)
    if sha256(body) != digest or body.count(b"\n") != count:
        raise Damaged(f"{uri} is damaged: its records are not what its digest names", hint=MEND)
    return header, body.split(b"\n")[:-1]


def check_schema(schema: Json, uri: str) -> None:
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise Damaged(f"{uri} is damaged: schema version {schema!r}", hint=MEND)
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


MEND = "`seal-ray verify` lists what is damaged; what a round lacks is done again when the run goes on"
