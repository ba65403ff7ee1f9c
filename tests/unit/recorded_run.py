"""A run as its driver would have recorded it, of any size, with made-up texts and scores in the place of models.

Rewards, choices and storage are the real ones. What is odd on purpose, in the first round: the first task's last edit
did not parse, one of its trials failed, one verdict could not be had, and an edit tries to break out of the page.
"""

import dataclasses
import random
import re
from typing import Any

from made_events import make

from seal_ray.config import Config, SelectSection, StorageSection
from seal_ray.events import (
    ActorChanged,
    EditsSampled,
    Event,
    Graded,
    PhaseEnded,
    PhaseStarted,
    RoundCommitted,
    RoundStarted,
    RunEnded,
    RunStarted,
    TrialDone,
    TrialFailed,
    UpdateStep,
    WaveDone,
)
from seal_ray.grading.reward import rewards
from seal_ray.policy import select, versions
from seal_ray.records import (
    Answer,
    Candidate,
    Cost,
    Edit,
    Failure,
    Likelihood,
    Recipe,
    Task,
    Trial,
    Verdict,
    Version,
    digest,
    encode,
)
from seal_ray.storage.ledger import Ledger, RoundLedger

HOSTILE = '</script><script>document.title = "broken"</script><!-- <img src=x onerror="document.title=1"> & \u2028'
WORDS = re.findall(
    r"\w+", "a bridge of blue glass and old oak was built by Odo Marsh in 1803 while nobody saw the lantern"
)
QUESTIONS, START = 4, 1_700_000_000.0


def record(
    uri: str,
    *,
    rounds: int = 1,
    tasks: int = 3,
    edits: int = 3,
    repeats: int = 2,
    sentences: int = 3,
    losses: int = 12,
    commit: bool = True,
    puzzles: bool = False,
) -> None:
    """Write the run. Without `commit` the last round stops after its first task's trials."""
    ledger = Ledger(uri, StorageSection(segment_seconds=3600))  # as many segments on a slow machine
    settings = Config.model_validate({"domain": {"name": "arc", "data": "nowhere"}} if puzzles else {}).model_dump(
        mode="json"
    )
    settings["run"] |= {"rounds": rounds, "uri": uri, "seed": 1}
    ledger.create(settings, {"seal-ray": "test", "python": "3.11"}, 1)
    ledger.acquire("test")
    made = (_Puzzles if puzzles else _Made)(ledger, tasks, edits, repeats, sentences, losses)
    made.tell(RunStarted, 0, uri=uri, seed=1, rounds=rounds, epoch=1, resumed=False)
    version = versions.first(digest("base"))
    for number in range(1, rounds + 1):
        version = made.a_round(number, version, whole=commit or number < rounds)
    made.tell(RunEnded, 0, outcome="done" if commit else "Interrupted", reason="" if commit else "interrupted")
    ledger.close()


class _Made:
    def __init__(self, ledger: Ledger, tasks: int, edits: int, repeats: int, sentences: int, losses: int) -> None:
        self.ledger, self.tasks, self.edits, self.repeats = ledger, tasks, edits, repeats
        self.sentences, self.losses = sentences, losses
        self.luck, self.now, self.next = random.Random(1), START, 0

    def tell(self, kind: type[Event], number: int, /, **fields: Any) -> None:
        self.now += 0.25
        self.ledger.events(make(kind, number, self.now, **fields))

    def text(self, sentences: int) -> str:
        return "\n".join(" ".join(self.luck.choices(WORDS, k=24)).capitalize() + "." for _ in range(sentences))

    def name(self) -> str:
        self.next += 1
        return digest(["made", self.next])[:32]

    def a_round(self, number: int, version: Version, *, whole: bool) -> Version:
        part = self.ledger.round(number)
        tasks = [self.task(number, n) for n in range(self.tasks)]
        part.put("tasks.json", {"tasks": [encode(t) for t in tasks], "version": encode(version)})
        self.tell(RoundStarted, number, tasks=self.tasks, version=version.number, edits=self.edits)
        self.tell(PhaseStarted, number, phase="sampling", total=self.tasks * self.edits)
        self.tell(ActorChanged, number, worker="worker-1", role="worker", node="node-a", state="healthy", alive=1.0)
        for n, task in enumerate(tasks):
            if whole or n == 0:
                self.explore(part, task, version, odd=number == 1 and n == 0)
        if not whole:
            return version
        found = rewards(
            list(part.records("edits").values()),
            list(part.records("candidates").values()),
            [t for t in part.records("trials").values() if not t.failure],
            list(part.records("verdicts").values()),
            section=Config().grading,
        )
        part.put("rewards.json", encode(found) | {"coverage": 0.98})
        section = SelectSection()
        chosen = select.choose(found.rewards, section)
        kept = encode(select.kept(found.rewards, chosen))
        abstained = select.abstentions(found.rewards, section)
        part.put("selection.json", {"choices": [encode(c) for c in chosen], "kept": kept, "abstained": abstained})
        new = Version(number, digest(["version", number]), version.base, version.digest, f"rounds/{number:04d}/version")
        self.tell(PhaseStarted, number, phase="update", total=0)
        losses = [2.5 - 0.1 * n for n in range(6)]
        for n, loss in enumerate(losses):
            self.tell(UpdateStep, number, step=n + 1, steps=6, loss=loss)
        learned = [{"edit": c.edit, "task": c.task, "weight": c.weight} for c in chosen]
        measured = {"losses": losses, "validation_losses": [2.75, 2.25], "steps": 6, "kl": 0.01}
        part.put("update.json", {"version": encode(new), "edits": learned, **measured})
        self.tell(PhaseEnded, number, phase="update", seconds=2.0)
        figures = {
            "gain": 0.04,
            "gain_low": -0.01,
            "gain_high": 0.09,
            "old": -5.0,
            "new": -4.96,
            "tasks": 8,
            "drift": 0.02,
        }
        part.put(
            "gate.json", {"decision": "accept", "advice": "accept", "figures": figures, "reasons": ["gain +0.040"]}
        )
        part.commit({"version": encode(new), "decision": "accept"})
        self.tell(RoundCommitted, number, version=number, decision="accept")
        return new

    def task(self, number: int, n: int) -> Task:
        questions = [
            {"question": f"Who built harbour {number}.{n}, and why, {q}?", "answers": ["Odo Marsh"]}
            for q in range(QUESTIONS)
        ]
        data = {"title": f"Harbour {number}.{n}", "context": self.text(3), "questions": questions}
        return Task(f"harbour-{number}-{n}", data, f"harbour-{n}")

    def content(self, text: str) -> Any:
        return text

    def asked(self, task: Task) -> tuple[list[str], list[str], str]:
        """The questions as they are answered, as they are judged, and an answer."""
        ids = [f"{task.id}#{q}" for q in range(QUESTIONS)]
        return ids, ids, f" {self.text(1)}"

    def explore(self, part: RoundLedger, task: Task, version: Version, *, odd: bool) -> None:
        edits = []
        for slot in range(self.edits):
            text = self.text(self.sentences)
            failure = None
            if odd and slot == 0:
                text = f"{HOSTILE}\n{text}"
            if odd and slot == self.edits - 1:
                failure = Failure("no_text", "the edit is empty")
            ids = tuple(range(20))
            edit = Edit(self.name(), task.id, slot, version.digest, slot, (1, 2), ids, (-1.5,) * 20, text, "stop")
            content = None if failure else self.content(text)
            edits.append(dataclasses.replace(edit, content=content, failure=failure))
            part.append("edits", edits[-1])
        self.tell(EditsSampled, part.number, task=task.id, edits=self.edits, failed=int(odd), tokens=60)
        tried = [self.candidate(part, task, "baseline", None, 0)]
        tried += [self.candidate(part, task, "edit", e, r) for r in range(self.repeats) for e in edits if not e.failure]
        for n, candidate in enumerate(tried):
            self.trial(part, task, candidate, fails=odd and n == 1, unsaid=odd and n == 2)
        shown = {"worker": "worker-1", "candidates": len(tried), "started": self.now, "seconds": 0.5, "occupied": 0.8}
        self.tell(WaveDone, part.number, **shown)

    def candidate(self, part: RoundLedger, task: Task, kind: Any, edit: Edit | None, repeat: int) -> Candidate:
        slot = edit.slot if edit else -1
        recipe = Recipe() if edit else None
        made = Candidate(self.name(), task.id, kind, edit.id if edit else None, slot, repeat, repeat, recipe)
        part.append("candidates", made)
        return made

    def trial(self, part: RoundLedger, task: Task, c: Candidate, *, fails: bool, unsaid: bool) -> None:
        if fails:
            part.append(
                "trials", Trial(c.id, task.id, failure=Failure("nan_loss", "the loss is not a number at step 3"))
            )
            self.tell(
                TrialFailed, part.number, candidate=c.id, task=task.id, arm=c.kind, failure="nan_loss", blame="data"
            )
            return
        asked, judged, said = self.asked(task)
        better = 0.0 if c.kind == "baseline" else 0.3 + 0.05 * c.slot
        curve = tuple(3.0 / (1 + 0.2 * n) for n in range(0 if c.kind == "baseline" else self.losses))
        answers = tuple(Answer(q, said, 16, "stop", -9.0) for q in asked)
        likely = tuple(Likelihood(q, 0, -15.0 + 3 * better + self.luck.random(), 3) for q in asked)
        cost = Cost(0.5, 0.4, 0.1, 640, len(curve))
        part.append("trials", Trial(c.id, task.id, curve, answers, likely, cost, "worker-1"))
        for n, q in enumerate(judged):
            if unsaid and n == 0:
                lost = Failure("judge", "the judge gave no verdict")
                part.append("verdicts", Verdict(c.id, q, "lexical", None, None, lost))
            else:
                right = self.luck.random() < better
                part.append("verdicts", Verdict(c.id, q, "lexical", right, float(right)))
        self.tell(TrialDone, part.number, candidate=c.id, task=task.id, arm=c.kind, slot=c.slot, seconds=0.5)
        self.tell(Graded, part.number, grader="lexical", verdicts=QUESTIONS, failed=int(unsaid))


class _Puzzles(_Made):
    """The same of the few-shot domain: edits are directives, and one verdict rests on the answers to several views."""

    def task(self, number: int, n: int) -> Task:
        pairs = [{"input": [[0, 1, k], [2, 3, k]], "output": [[k, 1, 0], [k, 3, 2]]} for k in (4, 5)]
        return Task(f"puzzle-{number}-{n}", {"train": pairs, "test": [{"input": [[7, 8]], "output": [[8, 7]]}]})

    def content(self, text: str) -> Any:
        return {"basic": True, "size": False, "loss": "output", "learning_rate": 0.001, "epochs": len(text) % 5 + 1}

    def asked(self, task: Task) -> tuple[list[str], list[str], str]:
        return ["0/v0", "0/v1"], ["0"], "87\n78"
