"""Trying edits: from tasks to edits, trials and verdicts, each in the ledger as soon as it is there.

An exploration owns no machine (`explore` lends it some). It says what is left to sample and to try, takes what comes
back in any order, and can be made again from the ledger at any moment: what is recorded is not done twice.
"""

import dataclasses
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from seal_ray import models
from seal_ray.domains import Teller
from seal_ray.domains.base import Rejected
from seal_ray.events import (
    EditsSampled,
    Event,
    Graded,
    RepeatsAsked,
    RoundResumed,
    TrialAgain,
    TrialDone,
    TrialFailed,
    Warned,
)
from seal_ray.grading import heats
from seal_ray.grading.diversity import similarity
from seal_ray.grading.gain_model import GainModel, unpromising
from seal_ray.grading.measure import RUBRIC
from seal_ray.loops.asking import asks_of
from seal_ray.loops.dropping import Droppings
from seal_ray.loops.gain_features import features_of
from seal_ray.loops.session import Session
from seal_ray.loops.spending import JudgeUse
from seal_ray.records import (
    Ask,
    Attempt,
    Candidate,
    Edit,
    Example,
    Failure,
    Recipe,
    Repeats,
    Task,
    Trial,
    Verdict,
    Version,
    candidate_id,
    canonical,
    derive_seed,
)
from seal_ray.sampling.sampler import EditPrompt
from seal_ray.storage.ledger import RoundLedger

LEAST_IN_RACE = 2  # edits of a task; with no more there is nothing to drop


@dataclass(frozen=True)
class Plan:
    """What is explored: these tasks, with this version, so many edits and repeats."""

    tasks: tuple[Task, ...]
    version: Version
    edits: int  # for each task
    repeats: int  # training seeds for each edit, and for the context alone
    context_arm: bool
    salt: int  # goes into every seed: the same salt samples and trains with the same luck
    given: tuple[Edit, ...] | None = None  # edits from elsewhere; then nothing is sampled
    trials: bool = True  # without, edits are sampled and no candidate is made of them
    model: GainModel | None = None  # by which unpromising edits are dropped before they are tried
    heat: float = 0  # share of an edit's epochs after which the last ones of a task are dropped; 0: none are


class Exploration:
    """The state of one exploration, in memory and in the round's ledger."""

    def __init__(self, session: Session, part: RoundLedger, plan: Plan) -> None:
        self.plan, self.ledger, self.config = plan, part, session.config
        self.domain, self.tokenizer, self.grader = session.domain, session.tokenizer, session.grader
        self._sink, self._graders = session.tell, session.graders
        self._judging = JudgeUse(getattr(session.grader, "usage", None))
        self._rating = JudgeUse(session.rubric.usage if session.rubric else None)
        self.edits: dict[str, list[Edit]] = {}
        self.candidates: dict[str, Candidate] = {}
        self.trials: dict[str, Trial] = {}
        self.verdicts: dict[str, list[Verdict]] = {}
        self._tasks = {t.id: t for t in plan.tasks}
        self.lost: set[str] = set()  # tasks whose edits could not be had this time
        # candidates are made when there is room: tokenising many tasks at once would keep the workers waiting
        self._alone: deque[Task] = deque()  # without their baseline and context yet, which need no edit
        self._unopened: deque[Task] = deque()  # their edits are there, the candidates of these are not
        self._ready: deque[Candidate] = deque()
        self._running: set[str] = set()
        self._racing: dict[str, list[str]] = {}  # by task, the candidates of a heat that is not decided
        self._baseline: dict[str, str] = {}  # by task, the candidate
        self.droppings = Droppings(part, plan.version.digest, self._tell)
        self._answering = self.config.answering.identity()
        self._grading: dict[Future[tuple[list[Verdict], float]], Trial] = {}
        # an edit's repeats share its examples, and a task's candidates its questions
        self._training = lru_cache(512)(self._make_training)
        self._asks = lru_cache(128)(self._make_asks)
        self._recall()

    # what was there before

    def _recall(self) -> None:
        """Take up what the ledger already holds."""
        trials: dict[str, Trial] = self.ledger.records("trials")
        for verdict in self.ledger.records("verdicts").values():
            self.verdicts.setdefault(verdict.candidate, []).append(verdict)
        self._known_trials = trials
        by_task: dict[str, list[Edit]] = {}
        for edit in self.plan.given or self.ledger.records("edits").values():
            if edit.task in self._tasks and (self.plan.given or edit.version == self.plan.version.digest):
                by_task.setdefault(edit.task, []).append(edit)
        if self.plan.trials:
            self._alone.extend(self.plan.tasks)
        while trials and self._alone:  # of a round that was begun before: what is left of it must be known at once
            self._open_alone(self._alone.popleft())
        for task in self.plan.tasks:
            edits = sorted(by_task.get(task.id, []), key=lambda e: e.slot)
            if self.plan.given is not None or len(edits) >= self.plan.edits:
                self._arrived(task, edits)
        for request in self.asked():
            self._repeat(request)
        known = sum(c in self.trials for c in self.candidates)
        if self.edits and self.plan.given is None:
            edits, verdicts = (sum(map(len, of.values())) for of in (self.edits, self.verdicts))
            self._tell(RoundResumed(edits, known, verdicts))

    # sampling

    def chunks(self) -> Iterator[tuple[str, list[EditPrompt]]]:
        """What is left to sample. The chunks never change, so that the same seeds give the same edits."""
        size = self.config.sampling.chunk
        for start in range(0, len(self.plan.tasks), size):
            tasks = self.plan.tasks[start : start + size]
            if any(t.id not in self.edits for t in tasks):
                yield f"{start // size:05d}", [p for t in tasks for p in self._prompts(t)]

    def _prompts(self, task: Task) -> Iterator[EditPrompt]:
        section = self.config.sampling
        for slot in range(self.plan.edits):
            ask = self.domain.edit_request(task, slot)
            yield EditPrompt(
                task=task.id,
                slot=slot,
                prompt_ids=tuple(models.render(self.tokenizer, ask.prompt)),
                seed=derive_seed(self.config.run.seed, self.plan.salt, task.id, slot, "edit"),
                temperature=section.temperature if ask.temperature is None else ask.temperature,
                top_p=section.top_p if ask.top_p is None else ask.top_p,
                max_tokens=section.max_tokens if ask.max_tokens is None else ask.max_tokens,
                schema=ask.schema,
                style=ask.style,
            )

    def took(self, edits: Sequence[Edit]) -> None:
        """A chunk came back: parse, record, and queue its candidates."""
        by_task: dict[str, list[Edit]] = {}
        for edit in sorted(edits, key=lambda e: (e.task, e.slot)):
            if edit.task not in self.edits:
                by_task.setdefault(edit.task, []).append(edit)
        for task_id, raw in by_task.items():
            task = self._tasks[task_id]
            parsed: list[Edit] = []
            for edit in raw:
                parsed.append(self._parse(task, edit, parsed))
            if any(e.failure and e.failure.blame == "infra" for e in parsed):
                self._tell(Warned(f"task {task_id}: edits were lost and will be sampled again on resume"))
                self.lost.add(task_id)
                continue
            for edit in parsed:
                self.ledger.append("edits", edit)
            self._arrived(task, parsed)
            failed, tokens = sum(e.failure is not None for e in parsed), sum(len(e.ids) for e in parsed)
            self._tell(EditsSampled(task_id, len(parsed), failed, tokens))

    def _parse(self, task: Task, edit: Edit, earlier: Sequence[Edit]) -> Edit:
        if edit.failure:
            return edit
        if not all(map(math.isfinite, edit.logprobs)):
            failure = Failure("nan_logprob", "the log-probability of a sampled token is no number")
            return dataclasses.replace(edit, logprobs=(), failure=failure)
        content = self.domain.parse(task, edit.text)
        if isinstance(content, Failure):
            return dataclasses.replace(edit, failure=content)
        limit = self.config.sampling.drop_near_copies
        for other in earlier:
            if other.failure:
                continue
            if other.content == content:
                copy = Failure("copy", f"the same as the edit in slot {other.slot}")
            elif limit and similarity(str(other.content), str(content)) >= limit:
                copy = Failure("near_copy", f"nearly the same as the edit in slot {other.slot}")
            else:
                continue
            return dataclasses.replace(edit, content=content, failure=copy)
        return dataclasses.replace(edit, content=content)

    @property
    def to_come(self) -> int:
        """Candidates of edits that are not tried yet, made or not."""
        plan = self.plan
        return max(0, len(plan.tasks) * plan.edits * plan.repeats - len(self.trials)) if plan.trials else 0

    # candidates

    def _arrived(self, task: Task, edits: list[Edit]) -> None:
        """A task's edits are there."""
        self.edits[task.id] = edits
        if not self.plan.trials:
            return
        self._unopened.append(task)
        if self._known_trials:
            self._open_edits(self._unopened.pop())

    def _open_alone(self, task: Task) -> None:
        """Make the candidates that need no edit: samplers may take their time to start."""
        self._baseline[task.id] = self._add(task, "baseline", None, 0)
        for repeat in range(self.plan.repeats if self.plan.context_arm else 0):
            self._add(task, "context", None, repeat)

    def _open_edits(self, task: Task) -> None:
        edits = self._left(task)
        if self.plan.heat and len(edits) > LEAST_IN_RACE:
            race = [self._add(task, "heat", edit, 0) for edit in edits]
            if not self.droppings.decided(task.id, "heat"):
                self._racing[task.id] = race
                return
        for repeat in range(self.plan.repeats):
            for edit in self._left(task):
                self._add(task, "edit", edit, repeat)

    def features(self, task: Task) -> dict[str, dict[str, float]]:
        """What is known of the task's edits before they are tried, by edit."""
        return features_of(self.edits.get(task.id, []), Teller(self.domain).describe(task))

    def _left(self, task: Task) -> list[Edit]:
        """The task's edits that nothing has dropped; by what is predicted of them it is decided here."""
        edits, model = [e for e in self.edits[task.id] if not e.failure], self.plan.model
        if model and len(edits) > LEAST_IN_RACE and not self.droppings.decided(task.id, "predicted"):
            seed = derive_seed(self.config.run.seed, self.plan.salt, task.id, "spare")
            section = self.config.inner
            out = unpromising(model, self.features(task), section.prune, section.prune_spare, seed)
            self.droppings.decide(task.id, "predicted", edits, out)
        return self.droppings.left(task.id, edits)

    def _decide_heats(self) -> None:
        """Where a task's heat is over: drop the edits that are out, and go on with the rest."""
        for task_id in [t for t, race in self._racing.items() if self._settled([*race, self._baseline.get(t, "")])]:
            own = [self.candidates[c] for c in (*self._racing.pop(task_id), self._baseline[task_id])]
            edits = self._left(self._tasks[task_id])
            verdicts = [v for c in own for v in self.verdicts.get(c.id, [])]
            trials, grading = [self.trials[c.id] for c in own], self.config.grading
            out = heats.lost(edits, own, trials, verdicts, section=grading, keep=self.config.inner.heat_keep)
            self.droppings.decide(task_id, "heat", edits, out)
            self._unopened.append(self._tasks[task_id])

    def _settled(self, candidates: Sequence[str]) -> bool:
        """Whether all of them are tried, and what could be graded is."""
        if not all(c in self.trials for c in candidates):
            return False
        waiting = {trial.candidate for trial in self._grading.values()}
        return all(self.trials[c].failure or (c in self.verdicts and c not in waiting) for c in candidates)

    def _add(self, task: Task, kind: Any, edit: Edit | None, repeat: int) -> str:
        slot = edit.slot if edit else {"baseline": -1, "context": -2}[kind]
        # all edits of a task share the seeds of their repeats: they differ by their text and not by luck
        luck = "heat" if kind == "heat" else "train"
        seed = derive_seed(self.config.run.seed, self.plan.salt, task.id, repeat, luck)
        content = edit.content if edit else kind
        try:
            recipe = None if kind == "baseline" else self._training(task.id, edit.id if edit else None)[1]
            if recipe and kind == "heat":
                recipe = heats.shortened(recipe, self.plan.heat)
            failure = None
        except Rejected as rejected:
            recipe, failure = self.config.inner.recipe(), rejected.failure
        identity = candidate_id(self.plan.version.digest, task.digest, content, recipe, self._answering, seed)
        candidate = Candidate(identity, task.id, kind, edit.id if edit else None, slot, repeat, seed, recipe)
        if identity in self.candidates:
            return identity
        self.candidates[identity] = candidate
        known = self._known_trials.get(identity)
        if known:
            self.trials[identity] = known
            if not known.failure and not self._graded(known):
                self._grade(known)
            return identity
        self.ledger.append("candidates", candidate)
        if failure:
            self.tried(Trial(identity, task.id, failure=failure))
        else:
            self._ready.append(candidate)
        return identity

    def _make_training(self, task_id: str, edit_id: str | None) -> tuple[tuple[Example, ...], Recipe]:
        edit = self._edit(task_id, edit_id)
        examples, recipe = self.domain.training(self._tasks[task_id], edit.content if edit else None, self.tokenizer)
        return tuple(examples), recipe

    def _edit(self, task_id: str, edit_id: str | None) -> Edit | None:
        return next((e for e in self.edits.get(task_id, ()) if e.id == edit_id), None)

    def more(self, requests: Sequence[Repeats]) -> None:
        """Further repeats where the choice is still open. The request is safe before it is acted on."""
        for request in requests:
            self.ledger.append("repeats", request)
        self.ledger.flush()
        for request in requests:
            self._tell(RepeatsAsked(request.task, len(request.edits), request.repeats, request.reason))
            self._repeat(request)

    def asked(self) -> list[Repeats]:
        """The further repeats that were asked for so far."""
        return [r for r in self.ledger.records("repeats").values() if r.version == self.plan.version.digest]

    def _repeat(self, request: Repeats) -> None:
        task = self._tasks.get(request.task)
        for edit in self.edits.get(request.task, []):
            if task and edit.id in request.edits:
                for repeat in range(request.first, request.first + request.repeats):
                    self._add(task, "edit", edit, repeat)

    def attempts(self, room: int) -> list[Attempt]:
        """The next candidates to try, whole, as many as there is room for."""
        out = []
        while len(out) < room and self.queued:
            if not self._ready and self._alone:
                self._open_alone(self._alone.popleft())
                continue
            if not self._ready:
                self._open_edits(self._unopened.popleft())
                continue
            candidate = self._ready.popleft()
            task = self._tasks[candidate.task]
            try:
                examples = () if candidate.kind == "baseline" else self._training(task.id, candidate.edit)[0]
            except Rejected as rejected:  # it was made before, and could not be made again
                self.tried(Trial(candidate.id, task.id, failure=rejected.failure))
                continue
            out.append(Attempt(candidate, examples, self._asks(task.id)))
            self._running.add(candidate.id)
        return out

    def _make_asks(self, task_id: str) -> tuple[Ask, ...]:
        return asks_of(self._tasks[task_id], self.domain, self.tokenizer, self.config.answering)

    # trials and verdicts

    def tried(self, trial: Trial) -> None:
        """A trial came back. The first record of an id counts; a loss that was nobody's fault is not recorded."""
        self._running.discard(trial.candidate)
        candidate = self.candidates[trial.candidate]
        if trial.candidate in self.trials:
            self._tell(TrialAgain(trial.candidate, trial.worker))
            return
        trial = _sound(trial)
        self.trials[trial.candidate] = trial
        if not trial.failure or trial.failure.blame == "data":
            self.ledger.append("trials", trial)
        if trial.failure:
            failure = trial.failure
            self._tell(
                TrialFailed(trial.candidate, trial.task, candidate.kind, failure.kind, failure.message, failure.blame)
            )
            return
        tokens = sum(g.tokens for g in trial.likelihoods)
        self._tell(
            TrialDone(
                candidate=trial.candidate,
                task=trial.task,
                arm=candidate.kind,
                slot=candidate.slot,
                repeat=candidate.repeat,
                seconds=trial.cost.seconds,
                worker=trial.worker,
                likelihood=sum(g.logprob for g in trial.likelihoods) / tokens if tokens else None,
            )
        )
        self._grade(trial)

    def _graded(self, trial: Trial) -> bool:
        """Whether this grader has given its verdicts on the trial."""
        return any(v.grader == self.grader.name for v in self.verdicts.get(trial.candidate, []))

    def _grade(self, trial: Trial) -> None:
        task = self._tasks[trial.task]
        self._grading[self._graders.submit(self._verdicts_of, task, trial)] = trial

    def _verdicts_of(self, task: Task, trial: Trial) -> tuple[list[Verdict], float]:
        """In a thread of the graders: the verdicts, and the seconds that they took."""
        began = time.monotonic()
        verdicts = list(self.domain.verdicts(task, trial.candidate, trial.answers, self.grader))
        return verdicts, time.monotonic() - began

    def collect_verdicts(self) -> int:
        """Record the verdicts that are there. One that could not be had is not recorded, so that it is asked again."""
        done = [f for f in self._grading if f.done()]
        for future in done:
            trial = self._grading.pop(future)
            verdicts, seconds = future.result()
            self.verdicts[trial.candidate] = verdicts
            lost = [v for v in verdicts if v.failure and v.failure.blame == "infra"]
            if not lost:
                for verdict in verdicts:
                    self.ledger.append("verdicts", verdict)
            self._tell_graded(self.grader.name, len(verdicts), len(lost), seconds, self._judging)
        self._decide_heats()
        return len(done)

    def rated(self, verdicts: Sequence[Verdict], seconds: float) -> None:
        """Verdicts on edits themselves. One that could not be had is not recorded, so that it is asked again."""
        for verdict in verdicts:
            self.verdicts.setdefault(verdict.candidate, []).append(verdict)
            if not (verdict.failure and verdict.failure.blame == "infra"):
                self.ledger.append("verdicts", verdict)
        failed = sum(v.failure is not None for v in verdicts)
        self._tell_graded(RUBRIC, len(verdicts), failed, seconds, self._rating)

    def _tell_graded(self, grader: str, verdicts: int, failed: int, seconds: float, use: JudgeUse) -> None:
        spent = use.since()
        self._tell(
            Graded(grader, verdicts, failed, round(seconds, 3), spent.calls, spent.cached, round(spent.dollars, 6))
        )

    @property
    def unrated(self) -> list[Edit]:
        """The edits on which nobody has given a verdict."""
        return [e for own in self.edits.values() for e in own if not e.failure and e.id not in self.verdicts]

    # how far it is

    @property
    def sampled(self) -> bool:
        return all(t.id in self.edits or t.id in self.lost for t in self.plan.tasks)

    @property
    def trying(self) -> bool:
        """Whether candidates are with the workers."""
        return bool(self._running)

    @property
    def grading(self) -> bool:
        return bool(self._grading)

    @property
    def queued(self) -> int:
        """What nobody has been given yet: candidates, and tasks whose candidates are not made yet."""
        return len(self._ready) + len(self._alone) + len(self._unopened)

    @property
    def tried_out(self) -> bool:
        """Whether nothing is left that needs a machine."""
        return self.sampled and not (self.queued or self._running or self._racing)

    @property
    def done(self) -> bool:
        return self.tried_out and not self._grading

    def coverage(self) -> float:
        """Share of the candidates with a verdict among those that could have one; of the edits, where none is tried."""
        if not self.plan.trials:
            edits = [e for own in self.edits.values() for e in own if not e.failure]
            if self.plan.model:  # it has an opinion of each
                return len(edits) / max(1, len(edits) + len(self.lost) * self.plan.edits)
            rated = [e for e in edits if e.id in self.verdicts and not any(v.failure for v in self.verdicts[e.id])]
            return len(rated) / max(1, len(edits) + len(self.lost) * self.plan.edits)
        could = [c for c, t in self.trials.items() if not (t.failure and t.failure.blame == "data")]
        missing = len(self.candidates) - len(self.trials) + len(self.lost) * self.plan.edits * self.plan.repeats
        whole = [c for c in could if c in self.verdicts and not any(v.failure for v in self.verdicts[c])]
        return len(whole) / max(1, len(could) + missing)

    def _tell(self, event: Event) -> None:
        self._sink(dataclasses.replace(event, round=self.ledger.number))


def _sound(trial: Trial) -> Trial:
    """The trial, or its failure where it holds what no ledger takes: a NaN is a failure and never a score."""
    try:
        canonical(trial)
    except (ValueError, TypeError) as error:
        failure = trial.failure or Failure("not_finite", f"the trial's figures can't be kept: {error}")
        return Trial(trial.candidate, trial.task, worker=trial.worker, failure=failure)
    return trial
