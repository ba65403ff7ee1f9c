"""What a model's content is called: a digest of its files, each read once on this node and remembered in a note."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from seal_ray.cache_folder import default_root
from seal_ray.errors import DataError
from seal_ray.models import file_lock
from seal_ray.models.files import WANTED
from seal_ray.redaction import logger
from seal_ray.storage.objects import file_digest

log = logger(__name__)

LOCK, PART = ".lock", ".part"  # beside a note, while its folder is read


def digest_of(folder: str | Path, kept_as: Path | None = None) -> str:
    """The name of a model's content: over the digests of its files, which are remembered by their sizes and times.

    `kept_as`: where the folder will be from now on, for it to be remembered there.
    """
    folder = Path(folder).absolute()
    files = sorted(p for p in folder.iterdir() if p.is_file() and any(p.match(w) for w in (*WANTED, "*.py")))
    if not files:
        raise DataError(f"{folder}: no model is there", hint="name a folder with a model")
    stamps = {p.name: [p.stat().st_size, p.stat().st_mtime_ns] for p in files}
    named = str(kept_as or folder)
    note = default_root() / "digests" / f"{sha256(named.encode()).hexdigest()[:32]}.json"
    with _one_reader(note):  # the processes of a node begin at once, and one of them is to read
        told = _read(note)
        if told.get("files") == stamps and "digest" in told:
            return str(told["digest"])
        digest = digest_of_listed({p.name: file_digest(str(p)) for p in files})
        try:
            part = note.with_suffix(PART)
            part.write_text(json.dumps({"folder": named, "files": stamps, "digest": digest}))
            os.replace(part, note)
            _forget_what_is_gone(note)
        except OSError as error:
            log.info("the digest of %s is not remembered: %s", folder, error)
    return digest


def digest_of_listed(digests: Mapping[str, str]) -> str:
    """The same of files that need not be here: their names and SHA-256."""
    return sha256("\n".join(f"{name} {digests[name]}" for name in sorted(digests)).encode()).hexdigest()


def _read(note: Path) -> dict[str, Any]:
    """What a note says; nothing where it says nothing that can be read."""
    try:
        told = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


@contextlib.contextmanager
def _one_reader(note: Path) -> Iterator[None]:
    lock = note.with_suffix(LOCK)
    with contextlib.ExitStack() as stack:
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            while (held := file_lock.attempt(lock)) is None:
                time.sleep(0.05)
            stack.enter_context(held)
            stack.callback(lock.unlink, missing_ok=True)
        except OSError as error:
            log.info("%s can't be locked: %s", note, error)  # then each reads for itself
        yield


def _forget_what_is_gone(spare: Path) -> None:
    """Remove notes of folders that are no more, and what readers that were killed have left."""
    for stem in {path.stem for path in spare.parent.iterdir()} - {spare.stem}:
        note = spare.with_name(f"{stem}{spare.suffix}")
        if os.path.isdir(str(_read(note).get("folder", ""))):
            continue
        if held := file_lock.attempt(note.with_suffix(LOCK)):
            with held:
                for path in (note, note.with_suffix(PART), note.with_suffix(LOCK)):
                    path.unlink(missing_ok=True)
