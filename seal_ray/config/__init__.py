"""The whole configuration of a run, as one frozen, typed tree.

Read from a file by `config_file`. Imports neither torch
nor ray nor vllm, so that checking a configuration takes a fraction of a second.
"""

from pydantic import model_validator

from seal_ray.config.answering import ANSWERING_NAMED, AnsweringSection
from seal_ray.config.domains import (
    ArcDomain,
    CodeDomain,
    CodeStyle,
    DirectivesSection,
    DocumentsDomain,
    DomainSection,
    KnowledgeDomain,
    MathDomain,
    MathStyle,
    PluginDomain,
    Style,
)
from seal_ray.config.evaluation import EvaluationSection
from seal_ray.config.gate import GateSection
from seal_ray.config.grading import GradingSection
from seal_ray.config.inner import InnerSection
from seal_ray.config.model import ModelSection
from seal_ray.config.observe import ObserveSection
from seal_ray.config.placement import PlacementSection
from seal_ray.config.policy import UPDATE_METHODS, KeepMethod, PolicySection
from seal_ray.config.probe import ProbeSection
from seal_ray.config.run import Budget, RunSection
from seal_ray.config.sampling import SamplingSection
from seal_ray.config.section import DEEPEST, LARGEST, LEFT_OUT, LONGEST, HttpUrl, Section, Share, Word
from seal_ray.config.select import SelectSection
from seal_ray.config.storage import StorageSection
from seal_ray.config.study import KeepSection, StudySection
from seal_ray.records import digest

__all__ = [
    "ANSWERING_NAMED",
    "DEEPEST",
    "LARGEST",
    "LONGEST",
    "MAY_CHANGE",
    "UPDATE_METHODS",
    "AnsweringSection",
    "ArcDomain",
    "Budget",
    "CodeDomain",
    "CodeStyle",
    "Config",
    "DirectivesSection",
    "DocumentsDomain",
    "DomainSection",
    "EvaluationSection",
    "GateSection",
    "GradingSection",
    "HttpUrl",
    "InnerSection",
    "KeepMethod",
    "KeepSection",
    "KnowledgeDomain",
    "MathDomain",
    "MathStyle",
    "ModelSection",
    "ObserveSection",
    "PlacementSection",
    "PluginDomain",
    "PolicySection",
    "ProbeSection",
    "RunSection",
    "SamplingSection",
    "Section",
    "SelectSection",
    "Share",
    "StorageSection",
    "StudySection",
    "Style",
    "Word",
]


class Config(Section):
    """A run, whole. Sections that are left out take their defaults."""

    run: RunSection = LEFT_OUT
    model: ModelSection = LEFT_OUT
    domain: DomainSection = LEFT_OUT
    sampling: SamplingSection = LEFT_OUT
    inner: InnerSection = LEFT_OUT
    answering: AnsweringSection = LEFT_OUT
    grading: GradingSection = LEFT_OUT
    probe: ProbeSection = LEFT_OUT
    select: SelectSection = LEFT_OUT
    policy: PolicySection = LEFT_OUT
    gate: GateSection = LEFT_OUT
    evaluation: EvaluationSection = LEFT_OUT
    study: StudySection = LEFT_OUT
    placement: PlacementSection = LEFT_OUT
    storage: StorageSection = LEFT_OUT
    observe: ObserveSection = LEFT_OUT

    @model_validator(mode="after")
    def _blended(self) -> "Config":
        """What `auto` stands for is the domain's to say, once for the whole run."""
        if self.grading.blend_of == "auto":
            chosen = "contrast" if getattr(self.domain, "distractors", 0) else "likelihood"
            given = self.grading.model_fields_set - {"blend_of"}
            grading = self.grading.model_copy(update={"blend_of": chosen})
            grading.model_fields_set.intersection_update(given)  # it was left out all the same
            object.__setattr__(self, "grading", grading)
        return self

    @model_validator(mode="after")
    def _contrasted(self) -> "Config":
        grading = self.grading
        wanted = grading.reward == "contrast" or (grading.reward == "blend" and grading.blend_of == "contrast")
        if wanted and not getattr(self.domain, "distractors", 0):
            raise ValueError(
                f"grading: a contrast needs wrong answers, and domain {self.domain.name} takes none; "
                "set domain.distractors (8 is a good number) in a domain that has them, or take another reward"
            )
        return self

    @model_validator(mode="after")
    def _studied(self) -> "Config":
        method = self.study.keep.method
        if self.policy.mode == "full" and self.study.where == "bank":
            raise ValueError("study.where: bank trains adapters, and policy.mode is full; use where: auto or update")
        if self.policy.mode == "full" and method not in {"none", "replay"}:
            raise ValueError(
                f"study.keep.method: {method} holds on to an adapter, and policy.mode: full has none; "
                "use none or replay, or policy.mode: lora"
            )
        return self

    @model_validator(mode="after")
    def _priced(self) -> "Config":
        grading = self.grading
        judged = grading.grader in {"judge", "cascade"} or grading.reward == "rubric"
        if judged and self.run.budget.judge_dollars and not (grading.judge_price_in or grading.judge_price_out):
            raise ValueError(
                f"run.budget.judge_dollars: {self.run.budget.judge_dollars:g} limits nothing, for the judge has no "
                "price; set grading.judge_price_in and judge_price_out, or leave the limit out"
            )
        return self

    @property
    def largest_rank(self) -> int:
        """Of a version's adapter: with policy.fresh each round's is put beside those before it and served with them."""
        return self.policy.rank * (self.run.rounds if self.policy.fresh else 1)

    @property
    def digest(self) -> str:
        return digest(self.model_dump(mode="json"))


# fields that may differ when a run is resumed
MAY_CHANGE = (
    "placement",
    "observe",
    "storage",
    "run.budget",
    "run.domain_errors",
    "run.rounds",
    "run.resume",
    "run.uri",
    "model.cache",
    "model.cache_gb",
    "model.mirror",  # what comes from elsewhere must be the same files: their digest is each version's
    "model.revision",
    "inner.wave",
    "inner.wave_tokens",
    "grading.vote_rise",
    "grading.vote_fall",
)
