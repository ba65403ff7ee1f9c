"""What is learned: a section for each domain of this package, and one for those of others."""

from collections.abc import Container
from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, Field, Tag, model_validator

from seal_ray.config.section import LEFT_OUT, Section, Share
from seal_ray.records import Objective

Style = Literal[
    "implications",
    "long",
    "very_long",
    "rewrite",
    "self_qa",
    "chain_of_thought",
    "none",
    "entities",
    "mixture",
    "template",
    "key_concepts",
    "mind_map",
    "faithful_implications",
    "critical_questions",
    "case_studies",
    "discussion",
    "teachers_talk",
    "targeted",
]


class DirectivesSection(Section):
    """Edits that say how they are to be learned, as one JSON object with directives and a text."""

    offered: bool = Field(default=False, description="the policy chooses how its text is learned, within these limits")
    constrained: bool = Field(default=True, description="the object is sampled under its JSON schema")
    objectives: tuple[Objective, ...] = Field(
        default=("text", "answers", "distill", "distill_on_policy"), min_length=1, description="as inner.objective"
    )
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(), description="the only learning rates offered; empty: any within limits"
    )
    epoch_choices: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="the only numbers of epochs offered; empty: any within limits"
    )
    max_epochs: int = Field(default=20, ge=1, description="an edit that asks for more is failed: over_budget")
    max_lr: float = Field(default=1e-2, gt=0, description="an edit that asks for more is failed: over_budget")
    max_steps: int = Field(
        default=375, ge=1, description="an edit that needs more optimiser steps is failed: over_budget"
    )


def _check_tasks_and_mixture(section: "KnowledgeDomain | MathDomain | CodeDomain", styles: Container[str]) -> None:
    """`styles`: those that a mixture may be of, besides itself."""
    if section.validation + section.test >= 1:
        raise ValueError(
            f"validation {section.validation} and test {section.test} leave no tasks to train on; lower one"
        )
    if (section.style == "mixture") != bool(section.mixture):
        raise ValueError("style: mixture and mixture: {style: weight} go together; give both or neither")
    for style, weight in section.mixture.items():
        if style not in styles or style == "mixture" or weight <= 0:
            raise ValueError(f"mixture: {style}: {weight} is not a style with a weight over 0")


class KnowledgeDomain(Section):
    """Passages with questions: learn the passage, answer closed book."""

    name: Literal["knowledge"] = "knowledge"
    data: str = Field(
        default="builtin:quickstart",
        min_length=1,
        description="JSON, JSONL or SQuAD JSON by path or URI, hf:DATASET, builtin:quickstart or builtin:short",
    )
    validation: Share = Field(default=0.1, description="share of titles kept for validation")
    test: Share = Field(default=0.1, description="share of titles kept for the final test")
    style: Style = Field(
        default="implications",
        description="what the policy is asked to write; targeted: about the sentences that a probe found weak",
    )
    mixture: dict[str, float] = Field(default_factory=dict, description="weights of styles, for style: mixture")
    template: str = Field(
        default="",
        description="a prompt of your own, or builtin:facts, for style: template; {title} and {context} go in",
    )
    split_lines: bool = Field(default=True, description="each line of an edit is a training text of its own")
    max_texts: int = Field(
        default=30, ge=1, le=1000, description="training texts of an edit, at most (the passage comes on top)"
    )
    add_context: bool = Field(default=True, description="the passage itself is the last training text")
    mask_until: str = Field(
        default="", description="a training text carries loss only after the first of these in it, where it has one"
    )
    directives: DirectivesSection = LEFT_OUT
    max_questions: int = Field(default=0, ge=0, description="questions asked of a passage, at most; 0 is all")
    slice_by: str = Field(
        default="", description="a field of the data's questions or passages whose values reports are sliced by"
    )
    thought: bool = Field(default=False, description="answers think aloud first; the final answer is taken out")
    distractors: int = Field(
        default=8,
        ge=0,
        le=100,
        description="wrong answers whose likelihood is taken beside the right one, for a contrast",
    )

    @model_validator(mode="after")
    def _whole(self) -> "KnowledgeDomain":
        _check_tasks_and_mixture(self, {*get_args(Style)} - {"template"})
        if (self.style == "template") != bool(self.template):
            raise ValueError("style: template and template: FILE go together; give both or neither")
        return self


class DocumentsDomain(KnowledgeDomain):
    """Own documents: passages of a folder, with questions that people wrote, or that a probe writes."""

    name: Literal["documents"] = "documents"  # pyright: ignore[reportIncompatibleVariableOverride]
    data: str = Field(..., min_length=1, description="a file, folder, pattern or URI of Markdown, text, HTML and PDF")
    questions: str = Field(
        default="", description="questions that people wrote, as JSON: a list of {question, answer, document}"
    )
    validation: Share = Field(default=0, description="share of documents kept for validation; a gate needs some")
    test: Share = Field(default=0, description="share of documents kept for the final test")
    distractors: int = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default=0, ge=0, le=100, description="wrong answers whose likelihood is taken, for a contrast"
    )
    passage_tokens: int = Field(default=300, ge=20, le=100_000, description="most tokens of a passage, by its length")
    near_copies: float = Field(
        default=0.85,
        ge=0,
        le=1,
        description="a passage this similar to an earlier one is left out; 1: exact copies only",
    )
    instructions: Literal["strip", "keep"] = Field(
        default="strip", description="sentences that speak to a model are taken out, or only reported"
    )
    max_file_mb: float = Field(default=20, gt=0, le=1000, description="a larger file is passed over, and said so")
    max_files: int = Field(default=10_000, ge=1, description="more files than these are refused")
    max_passages: int = Field(default=100_000, ge=1, description="more passages than these are refused")

    @model_validator(mode="after")
    def _sliced(self) -> "DocumentsDomain":
        if self.slice_by:
            raise ValueError(f"slice_by: {self.slice_by}: documents have no fields; reports slice them by document")
        return self


class ArcDomain(Section):
    """Grid puzzles: the edit is a set of directives for test-time training."""

    name: Literal["arc"] = "arc"
    data: str = Field(..., min_length=1, description="challenges in ARC JSON; a path or a URI")
    solutions: str = Field(default="", description="solutions in ARC JSON, where the challenges don't hold them")
    validation: Share = Field(default=0.1, description="share of tasks kept for validation")
    test: Share = Field(default=0.1, description="share of tasks kept for the final test")
    grid_format: Literal["digits", "lists"] = Field(
        default="digits", description="how a grid is written: rows of digits, or Python lists"
    )
    constrained: bool = Field(default=True, description="the directives are sampled under their JSON schema")
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(), description="the only learning rates offered; empty: any within limits"
    )
    epoch_choices: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="the only numbers of epochs offered; empty: any within limits"
    )
    max_epochs: int = Field(default=10, ge=1, description="an edit that asks for more is failed: over_budget")
    max_lr: float = Field(default=1e-2, gt=0, description="an edit that asks for more is failed: over_budget")
    max_steps: int = Field(
        default=375, ge=1, description="an edit that needs more optimiser steps is failed: over_budget"
    )
    max_examples: int = Field(default=250, ge=1, description="training examples of an edit, at most")
    views: int = Field(default=4, ge=1, le=64, description="views of each test input that vote")
    max_grid: int = Field(default=30, ge=1, le=30, description="larger grids are dropped by augmentation")
    distractors: int = Field(
        default=0,
        ge=0,
        le=100,
        description="other grids of the task whose likelihood is taken beside the right one's, for a contrast",
    )


MathStyle = Literal["worked", "similar", "method", "mixture"]


class MathDomain(Section):
    """Problems with answers: edits are worked examples, similar problems solved, or methods."""

    name: Literal["math"] = "math"
    data: str = Field(..., min_length=1, description="JSON or JSON lines by path or URI, or hf:DATASET")
    fields: dict[Literal["problem", "answer", "group", "context"], str] = Field(
        default_factory=dict,
        description="names of the data's fields: problem, answer (after #### where that is in it), group (problems of "
        "a kind), context (shown for an edit, not asked with)",
    )
    gold: Literal["data", "majority"] = Field(
        default="data", description="whose answers count: the data's, or what most samples of a trial agree on"
    )
    validation: Share = Field(default=0.1, description="share of tasks kept for validation")
    test: Share = Field(default=0.1, description="share of tasks kept for the final test")
    style: MathStyle = Field(default="similar", description="what the policy is asked to write")
    mixture: dict[str, float] = Field(default_factory=dict, description="weights of styles, for style: mixture")
    shown: int = Field(default=1, ge=1, le=100, description="problems of a task that the policy sees, without answers")
    asked: int = Field(default=4, ge=1, le=100, description="sibling problems of a task that are asked after training")
    max_texts: int = Field(default=30, ge=1, le=1000, description="problems of an edit that are trained on, at most")
    thought: bool = Field(default=True, description="answers show their working first")

    @model_validator(mode="after")
    def _whole(self) -> "MathDomain":
        _check_tasks_and_mixture(self, get_args(MathStyle))
        return self


CodeStyle = Literal["solve", "variations", "explain", "tests", "mixture"]


class CodeDomain(Section):
    """Tasks with tests: edits are solved variations, explanations or tests; the reward is the share of tests passed."""

    name: Literal["code"] = "code"
    data: str = Field(..., min_length=1, description="JSON or JSON lines by path or URI, or hf:DATASET")
    fields: dict[Literal["prompt", "tests", "setup", "entry", "solution", "group", "id"], str] = Field(
        default_factory=dict,
        description="names of the data's fields: prompt, tests (assertions, check(candidate), or args with expected), "
        "setup (run before each test), entry (the function's name), solution (for a likelihood), group, id",
    )
    language: Literal["python", "toy"] = Field(
        default="python", description="toy: words applied to lists of digits, interpreted here, for tests of learning"
    )
    isolation: Literal["auto", "bubblewrap", "namespaces", "none"] = Field(
        default="auto",
        description="what keeps programs apart; auto refuses where nothing does; none: limits of time and memory only",
    )
    seconds: float = Field(default=5, gt=0, le=600, description="processor time for one test")
    memory_mb: int = Field(default=512, ge=128, le=65536, description="for a program and all that it starts")
    parallel: int = Field(default=4, ge=1, le=256, description="trials whose programs run at once")
    validation: Share = Field(default=0.1, description="share of tasks kept for validation")
    test: Share = Field(default=0.1, description="share of tasks kept for the final test")
    style: CodeStyle = Field(default="variations", description="what the policy is asked to write")
    mixture: dict[str, float] = Field(default_factory=dict, description="weights of styles, for style: mixture")
    shown_tests: int = Field(default=1, ge=0, le=100, description="tests of a task that its text shows")
    max_tests: int = Field(default=20, ge=1, le=1000, description="hidden tests of a task that are run, at most")
    max_texts: int = Field(default=20, ge=1, le=1000, description="lessons of an edit, at most")

    @model_validator(mode="after")
    def _whole(self) -> "CodeDomain":
        _check_tasks_and_mixture(self, get_args(CodeStyle))
        return self


class PluginDomain(Section):
    """A domain from another package, found under the entry point group `seal_ray.domains`."""

    name: str = Field(..., min_length=1, description="name of the entry point")
    options: dict[str, Any] = Field(default_factory=dict, description="whatever that domain takes")


def _which_domain(value: Any) -> str:
    name = value.get("name", "knowledge") if isinstance(value, dict) else getattr(value, "name", "")
    return name if isinstance(name, str) and name in {"knowledge", "documents", "arc", "math", "code"} else "plugin"


DomainSection = Annotated[
    Annotated[KnowledgeDomain, Tag("knowledge")]
    | Annotated[DocumentsDomain, Tag("documents")]
    | Annotated[ArcDomain, Tag("arc")]
    | Annotated[MathDomain, Tag("math")]
    | Annotated[CodeDomain, Tag("code")]
    | Annotated[PluginDomain, Tag("plugin")],
    Discriminator(_which_domain),
]
