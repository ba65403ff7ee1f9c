"""What a policy update is asked to do and what it found. Plain data that travels between processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from seal_ray.config import ModelSection, PolicySection, StorageSection
from seal_ray.models.shared import KeptAt
from seal_ray.policy.lessons import Lesson, LessonText
from seal_ray.policy.packing import LeftOut
from seal_ray.records import Json


@dataclass(frozen=True)
class UpdateJob:
    """One policy update. `output` must not exist yet; it appears whole, or not at all."""

    base: str  # folder with the base model's configuration, and its weights unless they are to be fetched as `model`
    lessons: tuple[Lesson, ...]
    section: PolicySection
    seed: int
    output: str  # folder on this node
    adapter: str | None = None  # what to go on from: a folder with an adapter, or with full weights
    kept: KeptAt | None = None  # where the run keeps that
    probe: tuple[LessonText, ...] = ()  # what drift is measured on; none: the lessons' own texts
    model: ModelSection = field(default_factory=ModelSection)
    digest: str = ""  # of the base's files; where it is told, they are fetched as `model` and must be these
    storage: StorageSection = field(default_factory=StorageSection)  # where `model` may have to be fetched from
    num_workers: int = 1
    use_gpu: bool = False
    cpus_per_worker: float = 1
    threads: int = 0  # of a worker on CPU; 0: as many as its CPUs


@dataclass(frozen=True)
class LearnedEdit:
    """An edit that was trained on."""

    edit: str
    task: str
    weight: float


@dataclass(frozen=True)
class StepLog:
    """One optimiser step over one global batch."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    kl: float  # from the starting version, nats per token of the batch
    entropy: float  # of the model's next token, nats
    tokens: int
    seconds: float


@dataclass(frozen=True)
class UpdateResult:
    """A new version's files, and how it came about."""

    folder: str
    kind: str  # adapter, full
    rank: int
    steps: int
    losses: tuple[float, ...]
    log: tuple[StepLog, ...]
    seconds: float
    kl: float  # of the new version from the starting one, nats per token, on the lessons' own texts
    drift: float | None  # of the new version from the base model in nats per token, on the probe
    entropy: float
    entropy_before: float
    likelihood: tuple[float, ...]  # mean log-probability per token of each lesson's text, after
    likelihood_before: tuple[float, ...]
    validation_losses: tuple[float, ...]  # negative log-likelihood per token: before, and after each epoch
    left_out: tuple[LeftOut, ...]
    held_back: tuple[str, ...]  # edits that the validation losses rest on
    edits: tuple[LearnedEdit, ...]  # what was trained on: neither what was left out nor what was held back
    recipe: Mapping[str, Json]  # the section's settings, the algorithm and the seed
    environment: Mapping[str, str]
    attempts: int = 1
