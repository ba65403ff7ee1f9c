"""What can be asked and served: a version of a run, or a folder that `export` or `adapt` wrote."""

import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seal_ray import config_file, models
from seal_ray.config import ModelSection, StorageSection
from seal_ray.errors import ConfigError, DataError
from seal_ray.grading.overlap import SMALL
from seal_ray.loops.history import Run, as_written
from seal_ray.policy import versions
from seal_ray.records import ADAPTER_CONFIG, Version

if TYPE_CHECKING:
    from seal_ray.loops.stream_steps import StreamSteps

LEARNED = "learned.json"  # in a folder of `adapt`: what came of it, also where that is no adapter
NOTE = "seal-ray.json"  # beside an adapter: the model that it belongs to, and what it is about
# what a folder says of its model; from where it is fetched and where it is kept is not for a stranger to choose
OF_MODEL = {"name", "revision", "dtype", "chat", "thinking", "max_length", "trust_remote_code", "quantization"}
BASE, BEGINNING = "base", "beginning"  # the base model; the adapter that a stream began with, where it did with one
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Served:
    """A base model's folder and the adapters to it, by the names under which they are asked."""

    base: str
    model: ModelSection
    adapters: dict[str, str]  # name -> folder
    topics: tuple[str, ...] = ()
    run: Run | None = field(default=None, compare=False)  # whose newer versions are to be served as well
    steps: "StreamSteps | None" = None  # of a stream whose steps have an adapter each: the question chooses
    scratch: str = ""  # where theirs are fetched to

    @property
    def rank(self) -> int:
        of_steps = [version.rank for version in self.steps.versions] if self.steps else []
        return max((*(models.adapter_rank(folder) for folder in self.adapters.values()), *of_steps), default=0)

    @property
    def chat(self) -> bool:
        return self.model.chat == "yes" or (self.model.chat == "auto" and models.has_chat_template(self.base))


def find(target: str, storage: StorageSection, scratch: str, model: str = "", *, trust: bool = False) -> Served:
    """`RUN#N` is version N of a run, `RUN` its current one, anything else a folder with an adapter.

    `scratch`: where files of a run are fetched to. `model`: the base model, where the folder does not say. `trust`:
    whoever asks wants the code run that comes with the model; a folder may come from anybody and can't want it.
    """
    if os.path.isfile(os.path.join(target, ADAPTER_CONFIG)):
        return _folder(target, storage, model, trust)
    if os.path.isfile(os.path.join(target, LEARNED)):
        raise ConfigError(
            f"{target} has no adapter: `seal-ray adapt` made none that was accepted",
            hint="its learned.html says why; a version that is held or was rejected can be named as RUN#N",
        )
    uri, mark, number = target.rpartition("#")
    run = Run(uri if mark else target, storage)
    version = _version(run, number if mark else "")
    base = models.fetch(run.config.model, storage, digest=version.base)
    steps = steps_of(run, version)
    alone = version.path and not steps
    adapters = {name_of(version): fetched(run.keeper(version), version, scratch)} if alone else {}
    return Served(base, run.config.model, adapters, _topics(run), None if mark else run, steps, scratch)


def steps_of(run: Run, version: Version) -> "StreamSteps | None":
    """The steps up to this version, where each has an adapter of its own."""
    if run.config.study.keep.method != "separate":
        return None
    from seal_ray.loops.stream_steps import StreamSteps

    return StreamSteps.of(run, version)


def step_name(steps: "StreamSteps", step: int) -> str:
    version = steps.versions[step]
    if step:
        return name_of(version)
    return BEGINNING if version.path else BASE


def step_adapter(steps: "StreamSteps", step: int, scratch: str) -> str | None:
    """The folder of a step's adapter; the base model has none."""
    version = steps.versions[step]
    return fetched(steps.run if step else steps.lender, version, scratch) if version.path else None


def step_adapters(steps: "StreamSteps", scratch: str) -> dict[str, str]:
    """The adapters of all steps by name."""
    folders = {step_name(steps, step): step_adapter(steps, step, scratch) for step in range(len(steps.versions))}
    return {name: folder for name, folder in folders.items() if folder}


def name_of(version: Version) -> str:
    return f"version-{version.number}"


def fetched(run: Run, version: Version, scratch: str) -> str:
    """The version's adapter in a folder of its own, checked."""
    if version.kind == "full":
        raise ConfigError(
            f"version {version.number} of {run.uri} is a set of full weights",
            hint="`seal-ray export` it --as merged, and serve that folder with vLLM",
        )
    folder = os.path.join(scratch, version.digest[:16])
    if not os.path.isdir(folder):
        part = f"{folder}.part"  # a server asks again for what failed: what is whole and checked has the name alone
        shutil.rmtree(part, ignore_errors=True)
        versions.fetch(version, run.ledger, part)
        os.rename(part, folder)
    return folder


def _version(run: Run, number: str) -> Version:
    if not number:
        current = run.current()
        if current is None:
            raise ConfigError(f"{run.uri} has no version yet", hint="wait for its first round")
        return current
    known = run.versions()
    matching = [v for v in known if str(v.number) == number]
    if not matching:
        numbers = ", ".join(str(v.number) for v in known) or "none"
        raise ConfigError(
            f"{run.uri} has no version {number}; there are: {numbers}", hint="`seal-ray lineage` lists them"
        )
    return matching[0]


def _folder(target: str, storage: StorageSection, model: str, trust: bool) -> Served:
    note = _note(Path(target) / NOTE)
    said = note.get("model", {})
    if isinstance(said, dict):
        said = {key: value for key, value in said.items() if key in OF_MODEL or key not in ModelSection.model_fields}
    section = config_file.validated(ModelSection, said, {}, os.path.join(target, NOTE))
    if model:
        section = section.model_copy(update={"name": model})
    elif "model" not in note:
        raise ConfigError(f"{target} does not say which model it belongs to", hint="name it with --model")
    if section.trust_remote_code and not trust:
        raise ConfigError(
            f"{os.path.join(target, NOTE)} wants code to be run that comes with the model {section.name}",
            hint="give --trust-remote-code if you trust that model and whoever made the folder",
        )
    name = Path(os.path.abspath(target)).name
    if name in {BASE, BEGINNING}:  # which are asked by these names
        name = f"adapter-{name}"
    listed = note.get("topics")
    topics = tuple(t for t in listed if isinstance(t, str)) if isinstance(listed, list) else ()
    return Served(models.fetch(section, storage), section, {name: os.path.abspath(target)}, topics)


def _note(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} can't be read: {error}", hint="export or adapt again") from None
    return note if isinstance(note, dict) else {}


def _topics(run: Run) -> tuple[str, ...]:
    """The titles of its tasks. Nothing else is read: edits and trials of a long run are gigabytes."""
    with as_written(run.uri, "its tasks"):
        parts = (run.ledger.round(n).get("tasks.json") or {} for n in run.ledger.rounds())
        titles = [task["data"].get("title") for part in parts for task in part.get("tasks", ())]
        return tuple(dict.fromkeys(t for t in titles if isinstance(t, str)))


def nearest_topic(question: str, topics: Sequence[str]) -> str:
    """The topic whose words the question names, the rare ones counting most; empty where it names none."""
    asked = set(WORD.findall(question.casefold())) - SMALL
    words = {topic: set(WORD.findall(topic.casefold())) - SMALL for topic in topics}
    seen_in = Counter(w for own in words.values() for w in own)

    def worth(topic: str) -> float:
        rare = {w: math.log(1 + len(topics) / seen_in[w]) for w in words[topic]}
        shared = sum(rare[w] for w in rare if w in asked)
        return shared / (sum(rare.values()) or 1.0)

    best = max(topics, key=worth, default="")
    return best if best and worth(best) >= 0.3 else ""
