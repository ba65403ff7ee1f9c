"""The nouns of a run as plain data: what travels between processes and what the ledger keeps.

It needs nothing but the standard library, so that every room can import it. Every record is a frozen dataclass;
`encode` and `decode` turn it into JSON values and back, and `digest` names its content.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

from seal_ray.plain_data import Json as Json
from seal_ray.plain_data import canonical as canonical
from seal_ray.plain_data import decode as decode
from seal_ray.plain_data import digest as digest
from seal_ray.plain_data import encode as encode
from seal_ray.redaction import redact
from seal_ray.text import storable

Split = Literal["train", "validation", "test"]
# what an inner loop learns: texts, answers to questions, or what the model expects with the context before its eyes, at
# answers that were written down or at those that it gives itself
Objective = Literal["text", "answers", "distill", "distill_on_policy"]
Blame = Literal["data", "infra"]  # data: trying again gives the same; infra: it may work elsewhere


# What is to be learned


@dataclass(frozen=True)
class Task:
    """What is to be learned and how it is tested. `data` is the domain's own and is JSON."""

    id: str
    data: Mapping[str, Json]
    group: str = ""  # tasks of one group (a title) are never split between training and validation
    # by question, wrong answers that its right one is told apart from; no part of what the task is
    distractors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    weight: float = 1.0  # of a round's draw; no part of what the task is either

    @property
    def digest(self) -> str:
        return digest([self.id, dict(self.data)])


@dataclass(frozen=True)
class Prompt:
    """A text for the model. With `chat` it is a user's turn, rendered with the model's chat template."""

    text: str
    system: str = ""
    chat: bool = False
    prefix: str = ""  # how the model's own turn begins


@dataclass(frozen=True)
class EditRequest:
    """What the policy is asked for one slot of a task. None means: as the configuration says."""

    prompt: Prompt
    style: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    schema: Mapping[str, Json] | None = None  # JSON schema for constrained decoding


@dataclass(frozen=True)
class Question:
    """One closed-book question: the prompt, every accepted answer, and how long an answer may be."""

    id: str
    prompt: Prompt
    gold: tuple[str, ...]
    text: str = ""  # the bare question, for graders and readers
    max_tokens: int = 64
    lead: str = ""  # stands between prompt and answer when an answer's likelihood is taken (" " after "Answer:")
    stop: tuple[str, ...] = ("\n",)
    end_answer: bool = True  # is the end-of-text token part of the answer whose likelihood is taken


@dataclass(frozen=True)
class AskedAs:
    """A question in words, as verdicts are about it: what is asked, and what counts as right."""

    id: str  # the verdicts' `question`
    text: str
    gold: tuple[Json, ...] = ()
    parts: tuple[str, ...] = ()  # questions whose answers one verdict rests on, where these are several


@dataclass(frozen=True)
class Description:
    """A task in words, for people and for judges."""

    title: str
    text: str  # what there is to learn
    questions: tuple[AskedAs, ...] = ()


# What is trained on


@dataclass(frozen=True)
class Example:
    """One training text: token ids, and for each whether it carries loss (as a label).

    With a `teacher`, what is learned is not the text but what the model itself expects where it has read more: the
    teacher reads these tokens in place of all that come before the first label, then the same labels.
    """

    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    teacher: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.mask), "an example has one mask value for each token"

    @property
    def first(self) -> int:
        """The first token that carries loss; a text's own first token is predicted from nothing and never does."""
        return next((i for i, labelled in enumerate(self.mask) if i and labelled), len(self.ids))


@dataclass(frozen=True)
class Recipe:
    """How one adapter is trained. The defaults suit a few dozen short texts; `PAPER_RECIPE` is the published one."""

    rank: int = 32
    alpha: float = 64.0
    targets: tuple[str, ...] = ("all-linear",)  # names of linear layers; "all-linear" leaves the output head out
    epochs: int = 10
    batch_size: int = 1  # texts in one micro-batch
    accumulation: int = 1  # micro-batches in one optimiser step
    lr: float = 1e-3
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: int = 0  # optimiser steps
    clip: float = 1.0  # gradient norm; 0 is no clipping
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    max_length: int = 2048  # a longer text fails the candidate
    pad_to: int = 0  # 0 is no padding; the paper's code pads to 2048 and trains on the padding
    shuffle: bool = True  # a new order each epoch, from the seed; False keeps the order given
    objective: Objective = "text"
    distill_temperature: float = 2.0  # of teacher and student, for examples that have a teacher
    answer_tokens: int = 32  # with distill_on_policy: tokens of an answer that is written while training, at most
    dropout: float = 0.0  # share of an adapter's inputs that is left out in training
    last_layers: int = 0  # adapters on so many of the model's last blocks only; 0 is all

    def steps(self, examples: int) -> int:
        """Optimiser steps for that many examples (a short last batch or accumulation still makes a step)."""
        return self.epochs * math.ceil(math.ceil(examples / self.batch_size) / self.accumulation)


PAPER_RECIPE = Recipe(targets=("q_proj", "v_proj"))
PAPER_PADDED_RECIPE = dataclasses.replace(PAPER_RECIPE, pad_to=2048)


# What is tried


@dataclass(frozen=True)
class Failure:
    """Why something has no result. A domain may have kinds of its own."""

    kind: str  # unparsable, no_text, too_long, nan_loss, over_budget, out_of_memory, deadline, killed_worker, judge…
    message: str
    blame: Blame = "data"

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", redact(storable(self.message)))


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
class Keeping:
    """By which method an adapter that is trained on keeps what it was; `inner.keep` has what each assumes."""

    method: str = "none"
    strength: float = 1.0  # of what holds it back
    energy: float = 0.95  # share of a step's directions that are held to be used
    most_rank: int = 256  # of the earlier steps' adapters together


@dataclass(frozen=True)
class StudyCourse:
    """What an adapter is trained on from, in which steps, and what of it must stay."""

    order: tuple[tuple[int, ...], ...]  # numbers of the texts of each optimiser step
    rates: tuple[float, ...]  # their learning rates
    keeping: Keeping = Keeping()
    start: Mapping[str, bytes] = field(default_factory=dict)  # files as a `StudyTrial` has them; none: a new adapter


@dataclass(frozen=True)
class StudyAttempt(Attempt):
    """A candidate whose adapter is trained on from another one."""

    course: StudyCourse = StudyCourse((), ())

    @property
    def steps(self) -> int:
        return len(self.course.order)


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
class StudyTrial(Trial):
    """A trial that brings its adapter along, in PEFT's format, and what its method remembers. The ledger keeps files
    as files: `plain` is what stands among its records."""

    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def plain(self) -> Trial:
        return Trial(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Trial)})


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


# What is learned from it


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error. `n` is how many repeats it rests on."""

    mean: float
    error: float
    n: int = 0


@dataclass(frozen=True)
class Reward:
    """What an edit is worth: the gain over its task's baseline, with its uncertainty."""

    edit: str
    task: str
    slot: int
    value: Estimate  # what selection looks at, shrunk towards the task's mean
    raw: Estimate  # the same, before shrinkage
    accuracy: Estimate | None = None  # not relative to the baseline
    likelihood: Estimate | None = None  # mean log-probability per gold token, not relative to the baseline


@dataclass(frozen=True)
class TaskScore:
    """How one arm of a task did: the baseline or the context alone."""

    task: str
    kind: CandidateKind
    accuracy: Estimate | None
    likelihood: Estimate | None


@dataclass(frozen=True)
class Repeats:
    """A request for more repeats of some edits of a task, recorded before it is acted on."""

    id: str
    task: str
    version: str  # digest of the version whose edits these are
    edits: tuple[str, ...]
    first: int  # number of the first repeat that is asked for
    repeats: int
    reason: str


@dataclass(frozen=True)
class Dropping:
    """Edits of a task that are not tried, or not to the end, recorded before it is acted on. None of them is a zero."""

    id: str
    task: str
    version: str  # digest of the version whose edits these are
    stage: Literal["predicted", "heat"]
    kept: tuple[str, ...]
    dropped: Mapping[str, str]  # by edit, why


@dataclass(frozen=True)
class Choice:
    """An edit to learn from, how strongly, and why. A negative weight teaches away from it."""

    task: str
    edit: str
    weight: float
    reason: str
    against: str | None = None  # the other edit of a preference pair
    algorithm: Literal["rest_em", "weighted", "pairs", "grpo"] = "rest_em"  # which says how the weight is to be used


@dataclass(frozen=True)
class Version:
    """The policy at one point: the base model and one adapter. Version 0 has no adapter."""

    number: int
    digest: str
    base: str  # digest of the base model's files
    parent: str | None = None  # digest of the version that it was trained on from
    path: str | None = None  # folder of the adapter (or of full weights), relative to the run's URI
    kind: Literal["base", "adapter", "full"] = "base"
    rank: int = 0
    created_by: str = ""


# What a version was asked (a probe)

AskedFor = Literal["write", "vote", "alone", "changed", "unrelated", "closed book", "support"]


@dataclass(frozen=True)
class Reply:
    """What a version said to one request of a probe, and what it was asked for."""

    id: str
    task: str
    purpose: AskedFor
    about: str  # the question, or the span that a question was written for
    version: str
    seed: int
    text: str
    logprob: float  # sum over its tokens
    tokens: int
    finish: str
    failure: Failure | None = None


@dataclass(frozen=True)
class ProbeQuestion:
    """A question about a passage, as it was written and before it was checked."""

    id: str
    task: str
    question: str
    answers: tuple[str, ...]
    origin: Literal["model", "person"]
    span: tuple[int, int] = (0, 0)  # the sentence of the passage that it is about
    style: str = ""  # number, name or phrase: what its answer is


@dataclass(frozen=True)
class ProbeCheck:
    """One check of one question. `passed` None: it could not be made, and says nothing."""

    id: str  # the question's, and the check's name
    task: str
    question: str
    name: str
    passed: bool | None
    reason: str = ""


# Names and seeds


def derive_seed(*parts: int | str) -> int:
    """A seed from where it is used (run seed, round, task, slot, repeat), never from the clock. Below 2**31."""
    return int(digest(list(parts))[:16], 16) % 2**31


# The fields of a recipe when the first candidates were named. They are in every name, whatever their value.
_FIRST_FIELDS = """
rank alpha targets epochs batch_size accumulation lr schedule warmup clip weight_decay betas eps max_length pad_to
shuffle
"""
NAMED_FIELDS = frozenset(_FIRST_FIELDS.split())


def identity(values: Mapping[str, Json], always: Set[str], defaults: Mapping[str, Json]) -> dict[str, Json]:
    """Settings as they enter a name: a setting that is newer than the first names only where it is not its default.

    So a run that was begun before there was such a setting finds its candidates under the names that they have.
    """
    return {k: v for k, v in values.items() if k in always or v != defaults[k]}


def candidate_id(version: str, task: str, edit: Json, recipe: Recipe | None, answering: Json, seed: int) -> str:
    """What makes two candidates the same: doing one twice is harmless, and the first record counts."""
    named = identity(encode(recipe), NAMED_FIELDS, encode(Recipe())) if recipe else None
    return digest([version, task, edit, named, answering, seed])[:32]
