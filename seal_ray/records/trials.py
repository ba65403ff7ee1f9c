"""What is tried, and what came of it."""

from dataclasses import dataclass
from typing import Literal

from seal_ray.plain_data import Json
from seal_ray.records.failure import Failure
from seal_ray.records.training import Example, Recipe


@dataclass(frozen=True)
class Edit:
    """A self-edit as it was sampled: the text, what the domain parsed from it, and how to sample it again."""

    id: str
    task: str
    slot: int
    version: str  # digest of the version that wrote it
    seed: int
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]  # of each sampled token under the distribution that it was sampled from
    text: str
    finish: str  # stop, length
    content: Json = None  # what the domain parsed: a text, or directives
    failure: Failure | None = None
    style: str = ""


# heat: an edit, trained for a part of its epochs; study: many texts, trained on from what was there
CandidateKind = Literal["baseline", "context", "edit", "heat", "study"]


@dataclass(frozen=True)
class Candidate:
    """One thing to try: an edit (or no edit at all, or the context alone), a recipe and a seed."""

    id: str
    task: str
    kind: CandidateKind
    edit: str | None  # the edit's id; None for what is trained on no single edit
    slot: int  # the edit's slot; -1 for the baseline, -2 for the context alone
    repeat: int
    seed: int
    recipe: Recipe | None  # None for the baseline: nothing is trained


@dataclass(frozen=True)
class Ask:
    """A question as the worker needs it: token ids only."""

    question: str
    prompt_ids: tuple[int, ...]
    gold_ids: tuple[tuple[int, ...], ...]  # each accepted answer, as the target of a likelihood
    max_tokens: int
    stop: tuple[str, ...] = ("\n",)
    distractor_ids: tuple[tuple[int, ...], ...] = ()  # wrong answers, as targets of likelihoods
    temperature: float = 0.0  # 0 is greedy
    top_p: float = 1.0
    samples: int = 1


@dataclass(frozen=True)
class Attempt:
    """A candidate with all that a worker needs to try it."""

    candidate: Candidate
    examples: tuple[Example, ...]
    asks: tuple[Ask, ...]

    @property
    def steps(self) -> int:
        return self.candidate.recipe.steps(len(self.examples)) if self.candidate.recipe else 0

    @property
    def tokens(self) -> int:
        """Tokens of one epoch."""
        return sum(len(e.ids) for e in self.examples)


@dataclass(frozen=True)
class Answer:
    question: str
    text: str
    tokens: int
    finish: str  # stop, length
    logprob: float  # sum over the answer's tokens
    sample: int = 0


@dataclass(frozen=True)
class Likelihood:
    """Log-probability of one accepted answer: the sum over its tokens and how many there are."""

    question: str
    gold: int
    logprob: float
    tokens: int


@dataclass(frozen=True)
class Cost:
    seconds: float = 0.0  # this candidate's share of its wave
    fit_seconds: float = 0.0
    answer_seconds: float = 0.0
    tokens: int = 0
    steps: int = 0
    taught: int = 0  # tokens that a teacher read for it
    written: int = 0  # tokens that it wrote itself while it was trained


@dataclass(frozen=True)
class Trial:
    """What running a candidate produced, or how it failed. A failure is never a score."""

    candidate: str
    task: str
    losses: tuple[float, ...] = ()
    answers: tuple[Answer, ...] = ()
    likelihoods: tuple[Likelihood, ...] = ()
    cost: Cost = Cost()
    worker: str = ""
    failure: Failure | None = None
    distractors: tuple[Likelihood, ...] = ()  # of wrong answers, numbered as the task has them

    @property
    def id(self) -> str:
        return self.candidate


@dataclass(frozen=True)
class Verdict:
    """What a grader says of one question of a trial: a score in [0, 1], or why there is none."""

    candidate: str
    question: str
    grader: str
    correct: bool | None
    score: float | None
    failure: Failure | None = None
    share: float | None = None  # of several answers to the question, how many are right; None: there is one

    @property
    def id(self) -> str:
        return f"{self.candidate}/{self.question}/{self.grader}"

    @property
    def credit(self) -> float | None:
        """What the question counts: 1 if right, 0 if not, and of several answers their mean."""
        if self.failure or self.correct is None:
            return None
        return float(self.correct) if self.share is None else self.share
