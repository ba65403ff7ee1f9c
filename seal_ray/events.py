"""What can happen in a run: one class for each kind. How they stand in the stream: `event_stream`.

Whoever has something to tell makes one of these and hands it to a `Sink`; whoever reads looks at the class. Round and
time are put in by the session where the teller leaves them open. A field marked as a `Detail` is for the person who
reads the stream or the trace; every other one is read by name somewhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from seal_ray.records import Blame, CandidateKind, Json

Phase = Literal["sampling", "trials", "grading", "update", "gate", "evaluation", "probe"]
# phases that try edits of their own: what comes in while one is on does not belong to the round
ASIDE: frozenset[Phase] = frozenset({"gate", "evaluation"})
RoleName = Literal["sampler", "worker", "trainer"]
# released: let go of on purpose; dead: lost
ActorState = Literal["starting", "healthy", "suspect", "leaving", "dead", "released"]
T = TypeVar("T")
Detail = Annotated[T, "detail"]  # what no program reads by name


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened."""

    round: int = 0
    time: float = 0.0  # seconds since 1970, by the clock of whoever tells it


Sink = Callable[[Event], None]


# a run and its rounds


@dataclass(frozen=True)
class RunStarted(Event):
    """A driver has taken the run over."""

    uri: str
    seed: int
    rounds: int  # that the run is to have; 0 where another command than `run` drives it
    epoch: Detail[int]
    resumed: bool


@dataclass(frozen=True)
class RunEnded(Event):
    outcome: str  # done, held, or the name of the error
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class RoundStarted(Event):
    tasks: int
    version: int
    edits: int  # for each task


@dataclass(frozen=True)
class RoundResumed(Event):
    """What was already in the ledger."""

    edits: int
    trials: int
    verdicts: int


@dataclass(frozen=True)
class RoundCommitted(Event):
    manifest: Detail[str]
    version: int
    decision: str
    seconds: float


@dataclass(frozen=True)
class PhaseStarted(Event):
    phase: Phase
    total: int = 0  # 0: not known yet


@dataclass(frozen=True)
class PhaseEnded(Event):
    phase: Phase
    seconds: float


# edits, trials and verdicts


@dataclass(frozen=True)
class EditsSampled(Event):
    """The edits of a task are there."""

    task: Detail[str]
    edits: int
    failed: int
    tokens: Detail[int]


@dataclass(frozen=True)
class TrialDone(Event):
    candidate: Detail[str]
    task: Detail[str]
    arm: CandidateKind
    slot: Detail[int]
    repeat: Detail[int]
    seconds: float
    worker: Detail[str]
    likelihood: float | None


@dataclass(frozen=True)
class TrialFailed(Event):
    candidate: Detail[str]
    task: Detail[str]
    arm: CandidateKind | None  # None in runs of before it was told
    failure: str  # its kind; domains may have kinds of their own
    message: str
    blame: Blame


@dataclass(frozen=True)
class TrialAgain(Event):
    """A second record of a candidate came in; the first one counts."""

    candidate: Detail[str]
    worker: Detail[str]


@dataclass(frozen=True)
class Graded(Event):
    """The verdicts on one trial, or on some edits. `failed` of them could not be had."""

    grader: str
    verdicts: int
    failed: int
    seconds: float = 0.0
    calls: int = 0  # requests to a judge, and so on; since the last of these events
    cached: int = 0
    cost: float = 0.0  # dollars


@dataclass(frozen=True)
class RepeatsAsked(Event):
    task: Detail[str]
    edits: int
    repeats: int
    reason: Detail[str]


@dataclass(frozen=True)
class ProbeAsked(Event):
    """Some of the requests that a probe makes for one purpose are answered."""

    purpose: str
    done: int
    total: int


@dataclass(frozen=True)
class EditsDropped(Event):
    """Edits of a task that are not tried, or not to the end."""

    task: Detail[str]
    stage: Literal["predicted", "heat"]
    kept: int
    dropped: int
    reasons: Detail[Mapping[str, Json]]  # by edit


@dataclass(frozen=True)
class RewardsMade(Event):
    reliability: Mapping[str, Json]  # by measure
    arms: Mapping[str, Json]  # base, context, edit -> measure -> estimate
    diversity: float | None
    coverage: float


@dataclass(frozen=True)
class EditsSelected(Event):
    choices: int
    abstained: int
    reasons: Detail[Mapping[str, Json]]  # by task without a choice
    kept: Mapping[str, Json] | None


# update and gate


@dataclass(frozen=True)
class UpdateStep(Event):
    step: int
    steps: int
    loss: float
    lr: float
    grad_norm: float
    kl: float
    entropy: float
    tokens: int
    seconds: float


@dataclass(frozen=True)
class UpdateValidated(Event):
    """The loss on held-back lessons, before the update (epoch 0) and after each epoch."""

    epoch: int
    loss: float


@dataclass(frozen=True)
class UpdateDone(Event):
    version: int
    steps: int
    loss: float
    seconds: float
    kl: float
    entropy: float


@dataclass(frozen=True)
class GateDecided(Event):
    decision: str
    figures: Mapping[str, Json]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class HeldOutScored(Event):
    """How a version's edits do on tasks that no round learns from."""

    version: int
    arms: Mapping[str, Json]  # base, edit -> measure -> estimate
    gain: Mapping[str, Json] | None  # the mean edit's over its baseline, as an estimate; None: none, or without a unit
    tried: int  # edits that have a reward
    written: int


# machines, storage, and what people should know


@dataclass(frozen=True)
class WaveDone(Event):
    """A worker has tried a lease of candidates."""

    lease: Detail[int]
    worker: str
    node: str
    candidates: int
    steps: Detail[int]
    started: float
    seconds: float
    occupied: float  # share of its life that the worker was at work


@dataclass(frozen=True)
class ActorChanged(Event):
    """A sampler, a worker or a trainer is in another state."""

    worker: str
    role: RoleName
    node: str
    state: ActorState
    reason: str = ""
    log: Detail[str] = ""
    busy: float = 0.0  # seconds
    alive: float = 0.0
    pid: Detail[int] = 0


@dataclass(frozen=True)
class LeaseChanged(Event):
    """A role holds devices, or has given them back."""

    role: RoleName
    state: Literal["acquired", "released"]
    count: int
    resources: str = ""  # for people
    gpus: float = 0.0  # of each


@dataclass(frozen=True)
class WaitingFor(Event):
    what: str
    missing: str
    deadline: Detail[float]  # seconds that are left


@dataclass(frozen=True)
class BudgetReached(Event):
    spent: Mapping[str, Json]
    limit: float


@dataclass(frozen=True)
class StoreRetried(Event):
    operation: str
    uri: str
    attempt: int
    error: str
    left: float = 0.0  # seconds for which it will be tried again


@dataclass(frozen=True)
class Warned(Event):
    message: str


@dataclass(frozen=True)
class UnknownEvent(Event):
    """What another version told and this one does not know."""

    kind: str
    data: Mapping[str, Json]
