"""What `seal-ray adapt` leaves: a folder with an adapter, and a page that says what it knows."""

import json
import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

from seal_ray import models
from seal_ray.commands import learned
from seal_ray.commands.private_files import write_private
from seal_ray.commands.served import LEARNED, NOTE, OF_MODEL
from seal_ray.config import Config
from seal_ray.errors import ConfigError
from seal_ray.loops.adapt import Adapted, titles
from seal_ray.loops.history import Run
from seal_ray.policy import versions
from seal_ray.policy.export import export
from seal_ray.records import ADAPTER, ADAPTER_CONFIG, Json
from seal_ray.storage.flags import as_typed

PAGE, TEXT, DATA = "learned.html", "learned.md", LEARNED
OURS = (PAGE, TEXT, DATA, NOTE, ADAPTER, ADAPTER_CONFIG)


def check_target(to: Path) -> None:
    """A folder that can't be written is found before hours of work, not after. An earlier page of ours is replaced."""
    if to.exists() and not (to / DATA).is_file():
        raise ConfigError(f"{to} is already there", hint="name another folder with --to")
    folder = to.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"{folder} is no folder that can be written to", hint="make it, or name another folder")


def write(done: Adapted, config: Config, to: Path) -> dict[str, Json]:
    """The pages always; the adapter where the gate accepted it."""
    said = learned.as_data(done, config.run.uri, str(to))
    accepted = done.version is not None and done.decision == "accept"
    with tempfile.TemporaryDirectory(prefix=f".{to.name}-", dir=to.absolute().parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        if accepted and done.version:
            _export(done, config, made)
            model = config.model.model_dump(mode="json", include=OF_MODEL)
            note = {"model": model, "topics": titles(done.tests), "run": config.run.uri}
            write_private(made / NOTE, json.dumps(note, indent=1, ensure_ascii=False) + "\n")
        name = to.absolute().name
        write_private(made / PAGE, learned.html(done, config.run.uri, name))
        write_private(made / TEXT, learned.markdown(done, config.run.uri, name))
        write_private(made / DATA, json.dumps(said, indent=1, ensure_ascii=False) + "\n")
        _move(made, to)
    return said | {"exported": accepted}


def _move(made: Path, to: Path) -> None:
    """All at once; over what an earlier call has left file by file, with the one first by which the next call knows it.
    Nothing is touched before everything is there.
    """
    if not to.exists():
        shutil.move(made, to)
        return
    for name in (DATA, *OURS):
        if (made / name).exists():
            shutil.move(made / name, to / name)
        elif name != DATA:
            (to / name).unlink(missing_ok=True)


def _export(done: Adapted, config: Config, to: Path) -> None:
    assert done.version
    run = Run(config.run.uri, config.storage)
    base = models.fetch(config.model, config.storage, digest=done.version.base)
    with tempfile.TemporaryDirectory(prefix="seal-ray-") as folder:
        versions.fetch(done.version, run.ledger, folder)
        made = Path(folder) / "made"
        trust = config.model.trust_remote_code
        export(base, folder, str(made), kind="adapter", probe=_probe(done, base, trust), trust=trust)
        for file in made.iterdir():
            shutil.copyfile(file, to / file.name)


def _probe(done: Adapted, base: str, trust: bool) -> list[list[int]]:
    tokenizer = models.tokenizer(base, trust_remote_code=trust)
    return [models.text_ids(tokenizer, q.text)[:256] for q in done.before.questions[:4] if q.text]


def show(done: Adapted, config: Config, to: Path) -> str:
    run, folder = as_typed(config.run.uri, config.storage), shlex.quote(str(to))
    lines: list[Any] = ["", *learned.summary(done), ""]
    lines.append(f"  read it:   {to / PAGE}")
    if done.version and done.decision == "accept":
        lines += [f'  ask it:    seal-ray ask {folder} "…"', f"  serve it:  seal-ray serve {folder}"]
    if done.decision == "hold":
        lines.append(f"  decide:    seal-ray approve {run} (or reject), then the same command again")
    lines.append(f"  look close: seal-ray report {run}")
    return "\n".join(lines)
