"""A crew whose model is a table: it knows some facts of a made-up world, reads the others where a passage tells them.

In the place of vLLM and banks; session, ledger, domain, prompts, checks and the map stay real. What is asked is read
from the prompt's own tokens, so a prompt that lost something loses its answer.
"""

import json
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adapters import write_adapter
from made_update import updated
from stand_in_crew import StandInCrew, WaitingChunks, WaitingPool

from seal_ray import models
from seal_ray.config import ModelSection
from seal_ray.policy import versions
from seal_ray.policy.job import UpdateJob, UpdateResult
from seal_ray.records import Answer, Attempt, Cost, Edit, Failure, Likelihood, Trial, Version, digest
from seal_ray.sampling.sampler import EditPrompt

_FIRST = "Ada Bo Cem Dov Eva Fin Gil Hana Ivo Jun Kai Lea Mio Nia Oto Pia"
_LAST = "Marsh Wren Tolliver Quint Arden Brock Calder Dunn Esk Farrow Gale Hobb Ives Jarl Kemp Loom"
_TOWNS = "Selmouth Varnholm Tarnby Ostwick Hollin Pellgate Quarrow Rindle Stavely Umberton Wexcombe Yarrowby"
TOWNS = _TOWNS.split()
FACT = re.compile(r"(\w+ \w+) was born in (\w+)")
QUESTION = re.compile(r"In which town was (\w+ \w+) born")
UNKNOWN = "Nowhere"
# what a run with this crew sets
LIKE_THESE = (
    "model.name=builtin:tiny", "model.chat=no", "observe.progress=quiet", "observe.ray_metrics=false",
    "domain.style=implications", 'domain.template=""',
)  # fmt: skip


def world(people: int, seed: int = 1) -> dict[str, str]:
    """People and the towns in which they were born."""
    luck = random.Random(seed)
    names = [f"{a} {b}" for a in _FIRST.split() for b in _LAST.split()]
    return {name: luck.choice(TOWNS) for name in luck.sample(names, people)}


def sentence(name: str, town: str) -> str:
    return f"{name} was born in {town}."


def folder(tmp_path: Path, facts: dict[str, str], each: int = 4) -> Path:
    """Documents of so many facts each."""
    docs = tmp_path / "docs"
    docs.mkdir()
    names = list(facts)
    for start in range(0, len(names), each):
        lines = [sentence(n, facts[n]) for n in names[start : start + each]]
        (docs / f"{start:03d}.md").write_text(f"# Register {start}\n\n" + " ".join(lines) + "\n")
    return docs


class KnowingCrew(StandInCrew):
    """`write` makes a question of a sentence: (question, answer). `stubborn`: who is answered for whatever is read."""

    def __init__(
        self,
        knows: dict[str, str],
        write: Callable[[str], tuple[str, str]] | None = None,
        quarrelsome: Sequence[str] = (),
        stubborn: dict[str, str] | None = None,
    ) -> None:
        folder = models.fetch(ModelSection(name="builtin:tiny"))
        self.tokenizer, self.base = models.tokenizer(folder), models.digest_of(folder)
        self.knows = dict(knows)
        self.write = write or _plain_question
        self.quarrelsome, self.stubborn = quarrelsome, stubborn or {}
        self.sampled: list[EditPrompt] = []
        self.tried: list[Attempt] = []
        self.lose = 0  # so many replies are lost, by nobody's fault
        self.lose_trials = 0  # the same of trials
        self.too_long = ""  # whoever asks about this one gets no answer
        self.lies: dict[str, str] = {}  # towns that edits make up for some names
        self.learned: dict[str, dict[str, str]] = {}  # by folder of a version, what it has learned
        self.jobs: list[UpdateJob] = []
        self._version = ""

    def samplers(self, version: Version, adapter: str | None) -> "_TableSamplers":
        self._load(version)
        return _TableSamplers(self)

    def pool(self, version: Version, adapter: str | None) -> "_TablePool":
        self._load(version)
        return _TablePool(self)

    def _load(self, version: Version) -> None:
        if not self._version:
            self.learned[version.digest] = dict(self.knows)
        self._version = version.digest
        self.knows = self.learned.get(version.digest, self.knows)

    def update(self, job: UpdateJob, *, sink: Any, tick: Any) -> UpdateResult:
        """In the place of the update: the new version knows what stands in its lessons."""
        self.jobs.append(job)
        texts = [self.tokenizer.decode([*lesson.text.prompt_ids, *lesson.text.ids]) for lesson in job.lessons]
        known = self.knows | dict(FACT.findall(" ".join(texts)))
        Path(job.output).parent.mkdir(parents=True, exist_ok=True)
        write_adapter(Path(job.output), len(self.jobs))
        parent = versions.first(self.base) if job.adapter is None else None
        assert parent, "a table is trained once"
        self.learned[digest([parent.digest, versions.files_digest(job.output)])] = known
        return updated(job, rank=4, likelihood=(-1.0,), likelihood_before=(-2.0,))

    # the table as a model

    def says(self, text: str, prompt: EditPrompt) -> str:
        if prompt.schema is not None:
            question, answer = self.write(text.rstrip().rpartition("Sentence: ")[2].strip())
            return json.dumps({"answer": answer, "question": question})
        if "\nPassage:\n" in text:  # an edit is asked for
            facts = FACT.findall(text.rpartition("\nPassage:\n")[2])
            return "\n".join(
                f"The town where {n} was born is known: {sentence(n, str(self.lies.get(n, t)))}" for n, t in facts
            )
        asked = text.rpartition("\nQuestion: ")[2].partition("\n")[0]
        name = self.asked_for(asked)
        if name in self.quarrelsome:
            return f" {TOWNS[prompt.seed % len(TOWNS)]}"
        if name in self.stubborn:
            return f" {self.stubborn[name]}"
        told = dict(FACT.findall(text.rpartition("\n\nText: ")[2])) if "\n\nText: " in text else {}
        return f" {told.get(name) or self.knows.get(name) or self.guess(prompt.seed)}"

    def asked_for(self, question: str) -> str:
        match = QUESTION.search(question) or re.search(r"(\w+ \w+)(?: and|\?)", question)
        return match.group(1) if match else ""

    def guess(self, seed: int) -> str:
        return random.Random(seed).choice([*TOWNS, UNKNOWN])


def _plain_question(told: str) -> tuple[str, str]:
    match = FACT.search(told)
    return (f"In which town was {match.group(1)} born?", match.group(2)) if match else ("", "")


class _TableSamplers(WaitingChunks):
    def __init__(self, crew: KnowingCrew) -> None:
        super().__init__()
        self._crew = crew

    def write(self, chunk: Sequence[EditPrompt]) -> list[Edit]:
        return [self._edit(p) for p in chunk]

    def _edit(self, prompt: EditPrompt) -> Edit:
        crew = self._crew
        crew.sampled.append(prompt)
        failure = None
        if crew.lose:
            crew.lose -= 1
            failure = Failure("killed_sampler", "it was killed", "infra")
        asked = crew.tokenizer.decode(list(prompt.prompt_ids))
        if crew.too_long and crew.too_long in asked:
            failure = Failure("too_long", "a prompt of 3000 tokens leaves no room within 2048")
        said = crew.says(asked, prompt)
        name = f"{prompt.task}/{prompt.seed}"
        ids = tuple(crew.tokenizer.encode(said))
        return Edit(
            name, prompt.task, prompt.slot, crew._version, prompt.seed, prompt.prompt_ids, ids, (-1.0,) * len(ids),
            said, "stop", failure=failure,
        )  # fmt: skip


class _TablePool(WaitingPool):
    """A candidate knows what stands in its texts, besides what its version knows."""

    most = 8

    def __init__(self, crew: KnowingCrew) -> None:
        super().__init__()
        self._crew = crew

    def poll(self, timeout: float) -> list[Trial]:
        time.sleep(0.001)
        done, self._waiting = self._waiting, []
        self._crew.tried += done
        return [self._trial(attempt) for attempt in done]

    def _trial(self, attempt: Attempt) -> Trial:
        crew, answers, likely = self._crew, [], []
        if crew.lose_trials:
            crew.lose_trials -= 1
            lost = Failure("killed_worker", "it was killed", "infra")
            return Trial(attempt.candidate.id, attempt.candidate.task, failure=lost)
        taught = " ".join(crew.tokenizer.decode(list(e.ids)) for e in attempt.examples)
        known = crew.knows | dict(FACT.findall(taught))
        for ask in attempt.asks:
            text = crew.tokenizer.decode(list(ask.prompt_ids))
            name = crew.asked_for(text.rpartition("\nQuestion: ")[2])
            answers.append(Answer(ask.question, f" {known.get(name, UNKNOWN)}", 2, "stop", -1.0))
            each = -0.2 if name in known else -3.0
            likely += [Likelihood(ask.question, n, each * len(g), len(g)) for n, g in enumerate(ask.gold_ids)]
        losses = (1.0,) if attempt.examples else ()
        return Trial(
            attempt.candidate.id, attempt.candidate.task, losses, tuple(answers), tuple(likely), Cost(), "table"
        )
