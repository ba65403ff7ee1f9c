"""The steps of a stream whose adapters are kept apart, for whoever asks it: what each has learned, and who answers."""

from dataclasses import dataclass
from typing import Any

from seal_ray import models
from seal_ray.config import Config
from seal_ray.domains import GuardedDomain, configured
from seal_ray.loops.arm import Arm
from seal_ray.loops.history import Run, as_written, find_version
from seal_ray.loops.stream import PLAN
from seal_ray.loops.studying.route import TextRouter
from seal_ray.loops.studying.texts import Texts, as_read, kept
from seal_ray.records import Task, Version, decode


@dataclass(frozen=True)
class _RunReader:
    """Reads the lessons of a run as its session did."""

    config: Config
    domain: GuardedDomain
    tokenizer: Any
    folder: str


@dataclass(frozen=True)
class StreamSteps:
    """The versions of a stream up to one of them: what it began with, and then one for each step.

    Of several sequences they are the first one's, as everywhere outside of the stream's own tables.
    """

    run: Run
    versions: tuple[Version, ...]
    sequence: tuple[tuple[str, ...], ...]  # tasks of step 1, 2, …

    @staticmethod
    def of(run: Run, version: Version) -> "StreamSteps | None":
        """None where the run is no stream with `study.keep.method: separate`."""
        part = run.ledger.round(1)
        with as_written(run.uri, "the steps of its stream"):
            plan, begun = part.get(PLAN), part.get("tasks.json")
            if run.config.study.keep.method != "separate" or not plan or not begun:
                return None
            first = decode(Version, begun["version"])
            last = 1 if version.digest == first.digest else version.number
            updates = [run.ledger.round(number).get("update.json") or {} for number in range(2, last + 1)]
            made = [decode(Version, update["version"]) for update in updates]
            return StreamSteps(run, (first, *made), tuple(map(tuple, plan["sequences"][0][: last - 1])))

    @property
    def lender(self) -> Run:
        """The run that has the files of what the stream began with."""
        arm = Arm.of(self.run.config.study.texts)
        return find_version(arm.where, self.run.config.storage)[1] if arm.kind == "version" else self.run

    @property
    def router(self) -> str:
        """By what an adapter is chosen: texts or likelihood."""
        return self.run.config.study.keep.router

    def by_words(self, question: str, folder: str, *, chat: bool) -> int:
        """The step that the exam would have this question answered by. `folder`: the base model."""
        section, study = self.run.config.model, self.run.config.study
        tokenizer = models.tokenizer(folder, trust_remote_code=section.trust_remote_code, thinking=section.thinking)
        reader = _RunReader(self.run.config, configured(self.run.config, chat), tokenizer, folder)
        with as_written(self.run.uri, "the steps of its stream"):
            texts = Texts(self.versions[0], kept(self.run.ledger.round(1), study.edits))
            read = [as_read(reader, texts, self._tasks(step)) for step in range(1, len(self.versions))]
        return TextRouter(read).choose(question)

    def _tasks(self, step: int) -> list[Task]:
        """A task that was deleted since is missing."""
        there = (self.run.ledger.round(step + 1).get("tasks.json") or {}).get("tasks", ())
        by_id = {task.id: task for task in (decode(Task, one) for one in there)}
        return [by_id[one] for one in self.sequence[step - 1] if one in by_id]
