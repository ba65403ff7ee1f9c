"""From an edit to a candidate, and from a candidate to all that a worker needs to try it."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from seal_ray.domains.base import Rejected
from seal_ray.grading import heats
from seal_ray.loops.asking import asks_of
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.session import Session
from seal_ray.records import (
    Ask,
    Attempt,
    Candidate,
    CandidateKind,
    Edit,
    Example,
    Failure,
    Json,
    Recipe,
    Task,
    candidate_id,
    derive_seed,
    digest,
)

NO_EDIT: dict[CandidateKind, int] = {"baseline": -1, "context": -2}  # slots of what is tried without an edit


class CandidateMaker:
    """Makes the candidates of one plan. `edits` are those that are there, by task, also while more come in."""

    def __init__(self, session: Session, plan: Plan, edits: Mapping[str, Sequence[Edit]]) -> None:
        self._plan, self._edits, self._config = plan, edits, session.config
        self._domain, self._tokenizer = session.domain, session.tokenizer
        self._tasks = {t.id: t for t in plan.tasks}
        self._answering = self._config.answering.identity()
        # an edit's repeats share its examples, and a task's candidates its questions
        self._training = lru_cache(512)(self._make_training)
        self._asks = lru_cache(128)(self._make_asks)

    def make(self, task: Task, kind: CandidateKind, edit: Edit | None, repeat: int) -> tuple[Candidate, Failure | None]:
        """The candidate; and why it can't be tried, where its training can't be made."""
        # all edits of a task share the seeds of their repeats: they differ by their text and not by luck
        luck = "heat" if kind == "heat" else "train"
        seed = derive_seed(self._config.run.seed, self._plan.salt, task.id, repeat, luck)
        failure = None
        try:
            recipe = None if kind == "baseline" else self._training(task.id, edit.id if edit else None)[1]
            if recipe and kind == "heat":
                recipe = heats.shortened(recipe, self._plan.heat)
        except Rejected as rejected:
            recipe, failure = self._config.inner.recipe(), rejected.failure
        content = _named(edit.content) if edit else kind
        name = candidate_id(self._plan.version.digest, task.digest, content, recipe, self._answering, seed)
        slot = edit.slot if edit else NO_EDIT[kind]
        return Candidate(name, task.id, kind, edit.id if edit else None, slot, repeat, seed, recipe), failure

    def attempt(self, candidate: Candidate) -> Attempt:
        """Raises `Rejected` where the training of what was made before can't be made again."""
        examples = () if candidate.kind == "baseline" else self._training(candidate.task, candidate.edit)[0]
        return Attempt(candidate, examples, self._asks(candidate.task))

    def _make_training(self, task_id: str, edit_id: str | None) -> tuple[tuple[Example, ...], Recipe]:
        edit = next((e for e in self._edits.get(task_id, ()) if e.id == edit_id), None)
        examples, recipe = self._domain.training(self._tasks[task_id], edit.content if edit else None, self._tokenizer)
        return tuple(examples), recipe

    def _make_asks(self, task_id: str) -> tuple[Ask, ...]:
        return asks_of(self._tasks[task_id], self._domain, self._tokenizer, self._config.answering)


def _named(content: Json) -> Json:
    """What an edit goes by in its candidates' names: its content, but for the one word that is the context arm's own.

    Every other edit keeps the names that it has in older ledgers.
    """
    return digest(["edit", content]) if content == "context" else content
