"""What a person decides of a run that is not on: accept or reject a held version, or go back to an earlier one.

Nothing is deleted: a decision is one more part in the ledger, with who, when and why.
"""

import contextlib
import getpass
import os
import socket
import time
from collections.abc import Iterator

from seal_ray.config import StorageSection
from seal_ray.errors import ConfigError
from seal_ray.loops import parents
from seal_ray.loops.history import as_written
from seal_ray.loops.parents import FORMERLY, PARENT
from seal_ray.records import Json, Version, decode, encode
from seal_ray.storage.flags import as_typed
from seal_ray.storage.ledger import Ledger


def decide(uri: str, storage: StorageSection, *, accept: bool, why: str) -> dict[str, Json]:
    """Answer the gate of the round that is held."""
    with _driven(uri, storage) as ledger:
        number = ledger.latest() + 1
        part = ledger.round(number)
        gate = part.get("gate.json")
        if not gate or gate["decision"] != "hold":
            raise ConfigError(
                f"no round of {uri} waits for a decision",
                hint=f"`seal-ray status {as_typed(uri, storage)}` says where it is",
            )
        if before := part.get("decision.json"):
            raise ConfigError(
                f"round {number} of {uri} is decided already: {before['decision']}, by {before['by']}",
                hint="the command that began the run goes on with it; `seal-ray rollback` leaves an accepted version",
            )
        said = _signed(why) | {"decision": "accept" if accept else "reject", "round": number}
        part.put("decision.json", said)
        return said


def rollback(uri: str, storage: StorageSection, *, to: int, why: str) -> dict[str, Json]:
    """Make the version that was current after round `to` current again; 0 is the base model. The latest round's takes
    an earlier word back.
    """
    with _driven(uri, storage) as ledger:
        latest = ledger.latest()
        part = ledger.round(latest + 1)
        if not 0 <= to <= latest:
            raise ConfigError(
                f"--to {to}: the run at {uri} has the rounds 1 to {latest}", hint="name one of them, or 0"
            )
        if to == latest and not parents.said(part):
            raise ConfigError(f"--to {to}: that version of {uri} is current already", hint="name an earlier round")
        if part.get("tasks.json"):
            raise ConfigError(
                f"round {latest + 1} has already begun with another version",
                hint="let it end (or stop after it with run.rounds), then roll back",
            )
        source = ledger.manifest(to) if to else None
        version = decode(Version, source["version"]) if source else decode(Version, _first(ledger))
        said = _signed(why) | {"to": to, "version": encode(version)}
        for name in (FORMERLY, PARENT):  # of somebody who has thought again since
            part.discard(name)
        part.put(PARENT, said)
        return said


def _first(ledger: Ledger) -> Json:
    tasks = ledger.round(1).get("tasks.json") or {}
    return tasks["version"]


@contextlib.contextmanager
def _driven(uri: str, storage: StorageSection) -> Iterator[Ledger]:
    """The run's ledger, held for as long as it takes to write the decision down."""
    ledger = Ledger(uri, storage)
    if not ledger.exists():
        raise ConfigError(f"there is no run at {uri}", hint="check the URI")
    ledger.acquire(f"{socket.gethostname()}:{os.getpid()}")
    try:
        with as_written(uri, "its rounds"):
            yield ledger
    finally:
        ledger.close()


def _signed(why: str) -> dict[str, Json]:
    return {"by": f"{_user()}@{socket.gethostname()}", "time": time.time(), "why": why}


def _user() -> str:
    """Who has decided; in a container the account may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"user {os.getuid()}"
