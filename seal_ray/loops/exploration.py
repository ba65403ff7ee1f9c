"""Trying edits: from tasks to edits, trials and verdicts, each in the ledger as soon as it is there.

An exploration owns no machine (`explore` lends it some). It says what is left to sample and to try, takes what comes
back in any order, and can be made again from the ledger at any moment: what is recorded is not done twice.
"""

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from seal_ray.domains import Teller
from seal_ray.domains.base import Rejected
from seal_ray.events import (
    EditsSampled,
    Event,
    Phase,
    RepeatsAsked,
    RoundResumed,
    TrialAgain,
    TrialDone,
    TrialFailed,
    Warned,
)
from seal_ray.grading import heats
from seal_ray.grading.gain_model import unpromising
from seal_ray.loops.exploring.candidates import CandidateMaker
from seal_ray.loops.exploring.dropping import Droppings
from seal_ray.loops.exploring.edits import parsed, prompts_of
from seal_ray.loops.exploring.gain_features import features_of
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.exploring.verdicts import Verdicts
from seal_ray.loops.session import Session
from seal_ray.loops.voting import count_votes
from seal_ray.records import (
    Attempt,
    Candidate,
    CandidateKind,
    Edit,
    Failure,
    Repeats,
    Task,
    Trial,
    Verdict,
    canonical,
    derive_seed,
)
from seal_ray.sampling.sampler import EditPrompt
from seal_ray.storage.ledger import RoundLedger

LEAST_IN_RACE = 2  # edits of a task; with no more there is nothing to drop


class Exploration:
    """The state of one exploration, in memory and in the round's ledger."""

    def __init__(self, session: Session, part: RoundLedger, plan: Plan) -> None:
        self.plan, self.ledger = plan, part
        self._session, self._config, self._domain = session, session.config, session.domain
        self._tasks = {t.id: t for t in plan.tasks}
        self.edits: dict[str, list[Edit]] = {}
        self.lost: set[str] = set()  # tasks whose edits could not be had this time
        self.candidates: dict[str, Candidate] = {}
        self.trials: dict[str, Trial] = {}
        self._known_trials: dict[str, Trial] = part.records("trials")
        self._grading = Verdicts(session, part, self._tasks, self._tell)
        self.verdicts = self._grading.by_candidate
        self._maker = CandidateMaker(session, plan, self.edits)
        self.droppings = Droppings(part, plan.version.digest, self._tell)
        # candidates are made when there is room: tokenising many tasks at once would keep the workers waiting
        self._alone: deque[Task] = deque()  # without their baseline and context yet, which need no edit
        self._unopened: deque[Task] = deque()  # their edits are there, the candidates of these are not
        self._ready: deque[Candidate] = deque()
        self._running: set[str] = set()
        self._racing: dict[str, list[str]] = {}  # by task, the candidates of a heat that is not decided
        self._undecided: dict[str, int] = {}  # heats that nothing can be said of this time: by task, its edits
        self._baseline: dict[str, str] = {}  # by task, the candidate
        self._recall()

    # what was there before

    def _recall(self) -> None:
        """Take up what the ledger already holds."""
        by_task: dict[str, list[Edit]] = {}
        for edit in self.plan.given or self.ledger.records("edits").values():
            if edit.task in self._tasks and (self.plan.given or edit.version == self.plan.version.digest):
                by_task.setdefault(edit.task, []).append(edit)
        if self.plan.trials:
            self._alone.extend(self.plan.tasks)
        # of a round that was begun before: what is left of it must be known at once
        while self._known_trials and self._alone:
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
        size = self._config.sampling.chunk
        for start in range(0, len(self.plan.tasks), size):
            tasks = self.plan.tasks[start : start + size]
            if any(t.id not in self.edits for t in tasks):
                yield f"{start // size:05d}", [p for t in tasks for p in prompts_of(self._session, self.plan, t)]

    def took(self, edits: Sequence[Edit]) -> None:
        """A chunk came back: parse, record, and queue its candidates."""
        by_task: dict[str, list[Edit]] = {}
        for edit in sorted(edits, key=lambda e: (e.task, e.slot)):
            if edit.task not in self.edits:
                by_task.setdefault(edit.task, []).append(edit)
        for task_id, raw in by_task.items():
            task = self._tasks[task_id]
            own = parsed(self._domain, task, raw, self._config.sampling.drop_near_copies)
            if any(e.failure and e.failure.blame == "infra" for e in own):
                self._tell(Warned(f"task {task_id}: edits were lost and will be sampled again on resume"))
                self.lost.add(task_id)
                continue
            self.ledger.append_together("edits", own)  # whoever goes on finds a task written or not
            self._arrived(task, own)
            failed, tokens = sum(e.failure is not None for e in own), sum(len(e.ids) for e in own)
            self._tell(EditsSampled(task_id, len(own), failed, tokens))

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
        return features_of(self.edits.get(task.id, []), Teller(self._domain).describe(task))

    def _left(self, task: Task) -> list[Edit]:
        """The task's edits that nothing has dropped; by what is predicted of them it is decided here."""
        edits, model = [e for e in self.edits[task.id] if not e.failure], self.plan.model
        if model and len(edits) > LEAST_IN_RACE and not self.droppings.decided(task.id, "predicted"):
            seed = derive_seed(self._config.run.seed, self.plan.salt, task.id, "spare")
            section = self._config.inner
            out = unpromising(model, self.features(task), section.prune, section.prune_spare, seed)
            self.droppings.decide(task.id, "predicted", edits, out)
        return self.droppings.left(task.id, edits)

    def _decide_heats(self) -> None:
        """Where a task's heat is over: drop the edits that are out, and go on with the rest."""
        for task_id in [t for t, race in self._racing.items() if self._settled([*race, self._baseline.get(t, "")])]:
            own = [self.candidates[c] for c in (*self._racing.pop(task_id), self._baseline[task_id])]
            edits = self._left(self._tasks[task_id])
            verdicts = [v for c in own for v in self.verdicts.get(c.id, [])]
            trials, grading, keep = [self.trials[c.id] for c in own], self._config.grading, self._config.inner.heat_keep
            of_task = [self._tasks[task_id]]
            votes = count_votes(self._domain, of_task, own, trials) if grading.reward == "vote" else None
            out = heats.lost(edits, own, trials, verdicts, section=grading, keep=keep, votes=votes)
            if out is None and self._lacking(own):  # a decision is for good, and this loss is not
                self._tell(Warned(f"task {task_id}: what its heat rests on was lost; it is tried again on resume"))
                self._undecided[task_id] = len(edits)
                continue
            self.droppings.decide(task_id, "heat", edits, out or {})
            self._unopened.append(self._tasks[task_id])

    def _lacking(self, candidates: Sequence[Candidate]) -> bool:
        """Whether a trial or a verdict of these was lost that can be had on resume."""
        return self._grading.whole(c.id for c in candidates) < len(self._could([c.id for c in candidates]))

    def may_come(self, task: str) -> bool:
        """Whether edits, trials or verdicts of a task were lost that can be had on resume."""
        own = [c for c in self.candidates.values() if c.task == task]
        if task in self.lost or task in self._undecided or any(c.id not in self.trials for c in own):
            return True
        return self._lacking(own)

    def _could(self, candidates: Iterable[str]) -> list[str]:
        """Those among the tried candidates that could have a verdict."""
        failures = {c: self.trials[c].failure for c in candidates}
        return [c for c, failure in failures.items() if not (failure and failure.blame == "data")]

    def _settled(self, candidates: Sequence[str]) -> bool:
        """Whether all of them are tried, and what could be graded is."""
        if not all(c in self.trials for c in candidates):
            return False
        return all(self.trials[c].failure or self._grading.there(c) for c in candidates)

    def _add(self, task: Task, kind: CandidateKind, edit: Edit | None, repeat: int) -> str:
        candidate, failure = self._maker.make(task, kind, edit, repeat)
        name = candidate.id
        if name in self.candidates:
            return name
        self.candidates[name] = candidate
        known = self._known_trials.get(name)
        if known:
            self.trials[name] = known
            if not known.failure and not self._grading.given(name):
                self._grading.ask(known)
            return name
        self.ledger.append("candidates", candidate)
        if failure:
            self.tried(Trial(name, task.id, failure=failure))
        else:
            self._ready.append(candidate)
        return name

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
            try:
                out.append(self._maker.attempt(candidate))
            except Rejected as rejected:  # it was made before, and could not be made again
                self.tried(Trial(candidate.id, candidate.task, failure=rejected.failure))
                continue
            self._running.add(candidate.id)
        return out

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
        self._grading.ask(trial)

    def collect_verdicts(self) -> int:
        """Record the verdicts that have come in; on how many trials."""
        count = self._grading.collect()
        self._decide_heats()
        return count

    def rated(self, verdicts: Sequence[Verdict], seconds: float) -> None:
        """Take a judge's verdicts on edits themselves."""
        self._grading.rated(verdicts, seconds)

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
        """Whether candidates are with the workers, or wait for them or for the end of a heat."""
        return bool(self.queued or self._running or self._racing)

    @property
    def grading(self) -> bool:
        return self._grading.waiting

    @property
    def queued(self) -> int:
        """What nobody has been given yet: candidates, and tasks whose candidates are not made yet."""
        return len(self._ready) + len(self._alone) + len(self._unopened)

    @property
    def tried_out(self) -> bool:
        """Whether nothing is left that needs a machine."""
        return self.sampled and not self.trying

    @property
    def done(self) -> bool:
        return self.tried_out and not self.grading

    def total(self, phase: Phase) -> int:
        """How much of a phase there is, as far as it is known by now; 0: it is not."""
        if phase == "sampling":
            return len(self.plan.tasks) * self.plan.edits
        return self._trials_in_all() if phase == "trials" else 0

    def _trials_in_all(self) -> int:
        """Heats only where they are decided: until then they stand for the trials that come of them."""
        plan = self.plan
        written = {task: {e.id for e in own if not e.failure} for task, own in self.edits.items()}
        left = [len(self.droppings.left(t, [e for e in own if not e.failure])) for t, own in self.edits.items()]
        to_come = [plan.edits for t in plan.tasks if t.id not in self.edits and t.id not in self.lost]
        alone = len(plan.tasks) * (1 + plan.repeats * plan.context_arm)
        again = sum(len(written.get(r.task, set()) & set(r.edits)) * r.repeats for r in self.asked())
        raced = sum(c.kind == "heat" and c.task not in self._racing for c in self.candidates.values())
        return alone + plan.repeats * (sum(left) + sum(to_come)) + again + raced

    def coverage(self) -> float:
        """Share of the candidates with a verdict among those that could have one; of the edits, where none is tried."""
        if not self.plan.trials:
            edits = [e for own in self.edits.values() for e in own if not e.failure]
            predicted = self._config.grading.reward == "predicted"  # a model of gain has an opinion of each
            rated = len(edits) if predicted else self._grading.whole(e.id for e in edits)
            could_be = len(edits) + len(self.lost) * self.plan.edits
            return rated / could_be if could_be else 1.0
        could = self._could(self.trials)
        not_made = len(self.lost) * self.plan.edits + sum(self._undecided.values())
        missing = len(self.candidates) - len(self.trials) + not_made * self.plan.repeats
        return self._grading.whole(could) / max(1, len(could) + missing)

    def _tell(self, event: Event) -> None:
        self._session.tell(dataclasses.replace(event, round=self.ledger.number))


def _sound(trial: Trial) -> Trial:
    """The trial, or its failure where it holds what no ledger takes: a NaN is a failure and never a score."""
    try:
        canonical(trial)
    except (ValueError, TypeError) as error:
        failure = trial.failure or Failure("not_finite", f"the trial's figures can't be kept: {error}")
        return Trial(trial.candidate, trial.task, worker=trial.worker, failure=failure)
    return trial
