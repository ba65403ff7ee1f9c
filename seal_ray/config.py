"""The whole configuration of a run, as one frozen, typed tree.

Read from a file by `config_file`. Imports neither torch
nor ray nor vllm, so that checking a configuration takes a fraction of a second.
"""

import re
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from seal_ray.records import Json, Objective, Recipe, digest, identity
from seal_ray.redaction import credential_in
from seal_ray.text import lone_surrogate

LARGEST = 1e18  # of any number; larger ones overflow what computes with them
LONGEST = 1e8  # seconds of any wait: three years
DEEPEST = 20  # levels of a plug-in's options
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        """What is set must be plain data that a record can hold, and hold no credential."""
        problem = _unfit(value)
        if problem:
            raise ValueError(problem)
        return value


def _unfit(value: Any, depth: int = 0) -> str:
    """Why a value can't stand in a configuration; nothing where it can."""
    if value is None or isinstance(value, (bool, Section)):
        return ""
    if isinstance(value, str):
        return _unfit_text(value)
    if isinstance(value, (int, float)):
        return "" if abs(value) < LARGEST else "no setting is that large"
    if depth > DEEPEST:
        return "nested too deeply"
    if isinstance(value, (list, tuple)):
        return next((p for v in value if (p := _unfit(v, depth + 1))), "")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            return "its keys must be words"
        return next((p for pair in value.items() for v in pair if (p := _unfit(v, depth + 1))), "")
    return f"a {type(value).__name__} is no plain value"


def _unfit_text(text: str) -> str:
    if lone_surrogate(text) or any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in text):
        return "it holds a character that is no text"
    if credential := credential_in(text):
        return (
            f"it holds {credential}, and a configuration is recorded with the run; give credentials in the "
            "environment (those of the store, HF_TOKEN, the variable named by grading.judge_key_env, the tracker's own)"
        )
    return ""


def _http_url(address: str) -> str:
    if not address:
        return address
    try:
        parts = urlsplit(address)
        sound = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound or any(c.isspace() for c in address):
        raise ValueError("not a URL; write it as https://HOST or http://HOST:PORT")
    return address


def _variable(name: str) -> str:
    if name and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("not the name of an environment variable (the key itself does not belong here)")
    return name


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Word = Annotated[str, Field(min_length=1)]


# run


class Budget(Section):
    """What a run may spend. 0 is no limit. A spent budget stops the run cleanly; a larger one resumes it."""

    gpu_hours: float = Field(default=0, ge=0, description="GPU-hours over all leases")
    hours: float = Field(default=0, ge=0, description="hours on the wall")
    judge_dollars: float = Field(default=0, ge=0, description="spend on a paid judge, by its price per token")


class RunSection(Section):
    uri: str = Field(
        default="runs/default", min_length=1, description="where the run is kept: a folder, s3://bucket/path, gs://…"
    )
    seed: int = Field(default=0, ge=0, description="every other seed is derived from this one")
    rounds: int = Field(default=2, ge=1, le=1000, description="rounds of sample, try, grade, select, update, gate")
    tasks_per_round: int = Field(
        default=50, ge=1, description="training tasks in a round, drawn without repeats until all were seen"
    )
    resume: Literal["auto", "must", "never", "again"] = Field(
        default="auto",
        description="what to do with a run that is already at the URI; again: go on also where it ended for good",
    )
    parent: Literal["latest", "best", "archive"] = Field(
        default="latest",
        description="which version a round begins with: the latest accepted, the best on validation tasks, or any of "
        "the archive, drawn by that score and by how few children it has, rejected ones too",
    )
    coverage: Share = Field(
        default=0.8, description="share of a round's candidates that must have a verdict, else the round stops"
    )
    domain_errors: Share = Field(
        default=0.1,
        description="share of the edits read, training sets made or answers judged in which the domain's own code may "
        "raise; each is a failure, and more of them stop the run",
    )
    budget: Budget = Budget()


# model


class ModelSection(Section):
    name: str = Field(
        default="builtin:smollm2-135m",
        min_length=1,
        description="a folder, a hub id, s3://bucket/folder, builtin:smollm2-135m or builtin:tiny",
    )
    revision: str = Field(default="main", description="revision of a hub id")
    mirror: HttpUrl = Field(default="", description="URL of a hub mirror; empty is the hub's own")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 where the device has it"
    )
    chat: Literal["auto", "yes", "no"] = Field(
        default="auto",
        description="use the chat template; auto: if the model has one, and base models may have one too",
    )
    thinking: Literal["auto", "yes", "no"] = Field(
        default="auto", description="whether a chat model thinks before it answers; auto: as its template does"
    )
    max_length: int = Field(
        default=2048, ge=16, le=1_048_576, description="tokens of prompt and text together, at most"
    )
    trust_remote_code: bool = Field(default=False, description="run code that comes with the model's files")
    quantization: Literal["none", "8bit", "4bit"] = Field(
        default="none", description="of the frozen base in the inner loop; needs bitsandbytes"
    )
    cache: str = Field(default="", description="folder for models on each node; empty: ~/.cache/seal-ray")
    cache_gb: float = Field(default=200, gt=0, description="limit of that folder; the least recently used go first")

    @field_validator("chat", "thinking", mode="before")
    @classmethod
    def _yes_or_no(cls, value: Any) -> Any:
        """YAML reads a bare yes or no as true or false."""
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


# domain

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


class KnowledgeDomain(Section):
    """Passages with questions: learn the passage, answer closed book."""

    name: Literal["knowledge"] = "knowledge"
    data: str = Field(
        default="builtin:quickstart",
        min_length=1,
        description="JSON, JSONL or SQuAD JSON by path or URI, hf:DATASET, or builtin:quickstart",
    )
    validation: Share = Field(default=0.1, description="share of titles kept for validation")
    test: Share = Field(default=0.1, description="share of titles kept for the final test")
    style: Style = Field(default="implications", description="what the policy is asked to write")
    mixture: dict[str, float] = Field(default_factory=dict, description="weights of styles, for style: mixture")
    template: str = Field(
        default="", description="file with an own prompt, for style: template; {title} and {context} are filled in"
    )
    split_lines: bool = Field(default=True, description="each line of an edit is a training text of its own")
    max_texts: int = Field(
        default=30, ge=1, le=1000, description="training texts of an edit, at most (the passage comes on top)"
    )
    add_context: bool = Field(default=True, description="the passage itself is the last training text")
    mask_until: str = Field(
        default="", description="a training text carries loss only after the first of these in it, where it has one"
    )
    directives: DirectivesSection = DirectivesSection()
    max_questions: int = Field(default=0, ge=0, description="questions asked of a passage, at most; 0 is all")
    thought: bool = Field(default=False, description="answers think aloud first; the final answer is taken out")
    distractors: int = Field(
        default=0,
        ge=0,
        le=100,
        description="wrong answers whose likelihood is taken beside the right one, for a contrast",
    )

    @model_validator(mode="after")
    def _whole(self) -> "KnowledgeDomain":
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} and test {self.test} leave no tasks to train on; lower one")
        if (self.style == "mixture") != bool(self.mixture):
            raise ValueError("style: mixture and mixture: {style: weight} go together; give both or neither")
        if (self.style == "template") != bool(self.template):
            raise ValueError("style: template and template: FILE go together; give both or neither")
        for style, weight in self.mixture.items():
            if style not in get_args(Style) or style in {"mixture", "template"} or weight <= 0:
                raise ValueError(f"mixture: {style}: {weight} is not a style with a weight over 0")
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
    passage_tokens: int = Field(default=300, ge=20, le=100_000, description="of a passage, at most, by its length")
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
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} and test {self.test} leave no tasks to train on; lower one")
        if (self.style == "mixture") != bool(self.mixture):
            raise ValueError("style: mixture and mixture: {style: weight} go together; give both or neither")
        for style, weight in self.mixture.items():
            if style not in get_args(MathStyle) or style == "mixture" or weight <= 0:
                raise ValueError(f"mixture: {style}: {weight} is not a style with a weight over 0")
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
    seconds: float = Field(default=5, gt=0, le=600, description="of computing for one test")
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
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} and test {self.test} leave no tasks to train on; lower one")
        if (self.style == "mixture") != bool(self.mixture):
            raise ValueError("style: mixture and mixture: {style: weight} go together; give both or neither")
        for style, weight in self.mixture.items():
            if style not in get_args(CodeStyle) or style == "mixture" or weight <= 0:
                raise ValueError(f"mixture: {style}: {weight} is not a style with a weight over 0")
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


# the phases


class SamplingSection(Section):
    edits: int = Field(default=5, ge=1, le=1000, description="edits per task")
    temperature: float = Field(default=1.0, ge=0, le=5, description="of the policy's sampling")
    top_p: float = Field(default=0.95, gt=0, le=1, description="of the policy's sampling")
    max_tokens: int = Field(default=1024, ge=1, description="tokens of an edit, at most")
    chunk: int = Field(default=8, ge=1, description="tasks sampled in one call; the same chunks give the same edits")
    drop_near_copies: float = Field(
        default=0,
        ge=0,
        le=1,
        description="an edit this similar to an earlier one of its task is not tried; 0 keeps all",
    )
    gpu_memory: float = Field(default=0.85, gt=0, lt=1, description="share of a GPU's memory that vLLM takes")
    kv_cache_gb: float = Field(default=1, gt=0, description="KV cache on CPU")


class InnerSection(Section):
    """How a candidate's adapter is trained."""

    objective: Objective = Field(
        default="text",
        description="what is learned: an edit's texts; answers to its questions; or, with distill, what the model "
        "itself expects with the passage before its eyes, at written answers (or texts) or at its own "
        "(distill_on_policy)",
    )
    distill_temperature: float = Field(default=2.0, gt=0, le=100, description="with distill, of teacher and student")
    answer_tokens: int = Field(
        default=32,
        ge=1,
        le=4096,
        description="with distill_on_policy, tokens of an answer written in training, at most",
    )
    dropout: float = Field(default=0, ge=0, lt=1, description="share of an adapter's inputs left out in training")
    last_layers: int = Field(default=0, ge=0, description="adapters on so many of the last blocks only; 0 is all")
    rank: int = Field(default=32, ge=1, le=512, description="of a candidate's adapter")
    alpha: float = Field(default=64, gt=0, description="scale of a candidate's adapter (alpha / rank)")
    targets: tuple[Word, ...] = Field(
        default=("all-linear",),
        min_length=1,
        description="linear layers that get an adapter, by name; all-linear is all but the head",
    )
    epochs: int = Field(default=10, ge=1, le=1000, description="over an edit's texts")
    batch_size: int = Field(default=1, ge=1, description="texts in a micro-batch")
    accumulation: int = Field(default=1, ge=1, description="micro-batches in an optimiser step")
    lr: float = Field(default=1e-3, gt=0, le=1, description="peak learning rate")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="how the learning rate goes on after the warm-up"
    )
    warmup: int = Field(default=0, ge=0, description="optimiser steps of warm-up")
    clip: float = Field(default=1.0, ge=0, description="gradient norm of each adapter, at most; 0 is no limit")
    weight_decay: float = Field(default=0, ge=0, description="of AdamW")
    max_length: int = Field(default=2048, ge=8, description="a longer text fails its candidate")
    repeats: int = Field(default=3, ge=1, le=100, description="training seeds for each edit")
    extra_repeats: int = Field(
        default=0, ge=0, le=100, description="more repeats per task, on average, spent where the choice is still open"
    )
    heat: Share = Field(
        default=0,
        description="share of an edit's epochs in a heat: a short training after which only the best edits of a task "
        "are trained in full; 0: all are",
    )
    heat_keep: Share = Field(
        default=0.5, description="with heat: share of a task's edits that are trained in full, at most (2 always are)"
    )
    prune: Share = Field(
        default=0,
        description="share of a task's edits that are dropped before they are trained on, by a model of gain that is "
        "fitted on earlier rounds (2 edits always stay); 0: none",
    )
    prune_spare: Share = Field(
        default=0.2, description="with prune: share of these that are tried all the same, so as not to go blind"
    )
    context_arm: bool = Field(default=True, description="also try each task's context alone, to compare with")
    wave: int = Field(
        default=0, ge=0, description="candidates trained together on one device, at most; 0: from free memory"
    )
    wave_tokens: int = Field(default=2048, ge=64, description="tokens in one packed forward, at most")

    def recipe(self) -> Recipe:
        names = Recipe.__dataclass_fields__
        return Recipe(**{k: v for k, v in self.model_dump().items() if k in names})


# the settings of answering when the first candidates were named (see records.identity)
ANSWERING_NAMED = frozenset({"how", "max_tokens", "samples", "temperature", "engine_from"})


class AnsweringSection(Section):
    how: Literal["auto", "bank", "engine"] = Field(
        default="auto",
        description="who answers: the bank that trained, vLLM with the exported adapters, or by the answers' length",
    )
    max_tokens: int = Field(default=64, ge=1, le=65536, description="tokens of an answer, at most")
    samples: int = Field(
        default=1, ge=1, le=64, description="answers to each question; it counts as the share that is right"
    )
    temperature: float = Field(default=0, ge=0, le=5, description="0 is greedy")
    top_p: float = Field(default=1, gt=0, le=1, description="answers are drawn from the likeliest tokens of this share")
    engine_from: int = Field(default=512, ge=1, description="with how: auto, vLLM answers from this many tokens up")
    engine_memory: float = Field(
        default=0.4, gt=0, lt=1, description="share of a GPU's memory for the vLLM engine that answers beside the bank"
    )

    def identity(self) -> dict[str, Json]:
        """What of it makes candidates differ: neither memory nor a setting that came later and is at its default."""
        skip = {"engine_memory"}
        values, defaults = (x.model_dump(mode="json", exclude=skip) for x in (self, type(self)()))
        return identity(values, ANSWERING_NAMED, defaults)


class GradingSection(Section):
    grader: Literal["lexical", "judge", "cascade", "exact"] = Field(
        default="lexical", description="who says whether an answer is right"
    )
    judge_url: HttpUrl = Field(default="", description="OpenAI-compatible endpoint of the judge")
    judge_model: str = Field(default="", description="the judge's model")
    judge_key_env: Annotated[str, AfterValidator(_variable)] = Field(
        default="OPENAI_API_KEY",
        description="environment variable that holds the judge's key; the key itself is never kept",
    )
    judge_parallel: int = Field(default=32, ge=1, le=1024, description="requests at once")
    judge_timeout: float = Field(default=60, gt=0, le=LONGEST, description="seconds for one request")
    judge_retries: int = Field(default=6, ge=0, le=100, description="further attempts after one that may pass")
    judge_price_in: float = Field(default=0, ge=0, description="dollars per million prompt tokens, for the budget")
    judge_price_out: float = Field(default=0, ge=0, description="dollars per million answer tokens, for the budget")
    judge_cache: str = Field(default="", description="folder or URI of verdicts already bought; empty: inside the run")
    cascade_low: float = Field(
        default=0.05, ge=0, le=1, description="with cascade: lexical probability below which an answer is wrong"
    )
    cascade_high: float = Field(
        default=0.95, ge=0, le=1, description="with cascade: lexical probability above which an answer is right"
    )
    reward: Literal["accuracy", "likelihood", "contrast", "blend", "rubric", "predicted"] = Field(
        default="blend", description="what selection looks at"
    )
    blend: Share = Field(default=0.5, description="with blend: the likelihood's share, after both are put on one scale")
    blend_of: Literal["likelihood", "contrast"] = Field(
        default="likelihood", description="with blend: what accuracy is blended with"
    )
    gain_runs: tuple[str, ...] = Field(
        default=(),
        description="other runs of the same model whose committed rounds the model of gain is fitted on, by URI; for "
        "inner.prune, and for reward: predicted, which tries nothing",
    )

    @model_validator(mode="after")
    def _judge(self) -> "GradingSection":
        if (self.grader in {"judge", "cascade"} or self.reward == "rubric") and not (
            self.judge_url and self.judge_model
        ):
            raise ValueError("a judge needs judge_url and judge_model; or use grader: lexical, which is free and local")
        if self.cascade_low > self.cascade_high:
            raise ValueError(f"cascade_low {self.cascade_low} is above cascade_high {self.cascade_high}")
        return self


class ProbeSection(Section):
    """Questions that the frozen base writes about passages, how they are checked, and how they are asked."""

    questions: int = Field(
        default=4,
        ge=0,
        le=100,
        description="questions for a passage, by people or else written; not all of them survive",
    )
    votes: int = Field(default=3, ge=2, le=64, description="answers with the passage at hand; all of them must agree")
    samples: int = Field(default=4, ge=2, le=64, description="answers to each question without the passage")
    temperature: float = Field(default=0.7, gt=0, le=5, description="of votes and of answers without the passage")
    held_out: Share = Field(default=0.3, description="share of the questions that only the final figure rests on")
    known: Share = Field(
        default=0.15, description="a passage whose questions leave less doubt than this is known and needs no training"
    )
    chunk: int = Field(default=64, ge=1, le=4096, description="requests in one call of a sampler")


class SelectSection(Section):
    algorithm: Literal["rest_em", "weighted", "pairs", "grpo"] = Field(
        default="rest_em", description="how rewards become lessons"
    )
    rule: Literal["best", "top_k", "positive", "threshold"] = Field(
        default="best", description="with rest_em: which edits of a task are kept"
    )
    top_k: int = Field(default=1, ge=1, description="with rule: top_k")
    margin: float = Field(default=0, ge=0, description="standard errors by which an edit must beat its baseline")
    threshold: float = Field(default=0, description="with rule: threshold, the lower bound that an edit must pass")
    control: Literal["none", "shuffled"] = Field(
        default="none",
        description="shuffled: an experiment's control, in which the rewards of a task are dealt out anew among its "
        "edits by a seed, so that nothing can be learned from them",
    )


KeepMethod = Literal[
    "none", "fresh", "last_layers", "replay", "distill", "ewc", "null_space", "slao", "separate"
]  # fmt: skip
UPDATE_METHODS = ("none", "fresh", "last_layers", "replay")  # of those, what a policy update can do


class PolicySection(Section):
    """How the policy learns from the chosen edits."""

    mode: Literal["lora", "full"] = Field(default="lora", description="train the version's adapter on, or all weights")
    rank: int = Field(default=64, ge=1, le=512, description="of the policy's adapter")
    alpha: float = Field(default=128, gt=0, description="scale of the policy's adapter (alpha / rank)")
    targets: tuple[Word, ...] = Field(
        default=("all-linear",), min_length=1, description="layers of the policy's adapter"
    )
    fresh: bool = Field(default=False, description="merge and begin a new adapter each round, as the paper does")
    epochs: int = Field(default=2, ge=1, le=100, description="over the chosen edits")
    lr: float = Field(default=3e-4, gt=0, le=1, description="peak learning rate")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="cosine", description="how the learning rate goes on after the warm-up"
    )
    warmup: Share = Field(default=0, description="share of the steps that warm up")
    global_batch: int = Field(
        default=10, ge=1, description="examples in an optimiser step, whatever the number of workers"
    )
    micro_batch_tokens: int = Field(
        default=4096, ge=64, description="tokens that one device takes at once (examples are packed)"
    )
    clip: float = Field(default=1.0, ge=0, description="gradient norm, at most")
    weight_decay: float = Field(default=0, ge=0, description="of AdamW")
    max_length: int = Field(default=4096, ge=16, description="a longer example is left out, and said so")
    engine: Literal["auto", "deepspeed"] = Field(
        default="auto",
        description="auto: one worker trains an adapter by itself, more workers or full weights take DeepSpeed",
    )
    zero_stage: Literal[1, 2, 3] = Field(default=2, description="DeepSpeed ZeRO stage")
    offload: Literal["none", "cpu"] = Field(default="none", description="where ZeRO keeps the optimiser")
    checkpointing: bool = Field(default=True, description="recompute activations to save memory")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(default="auto", description="of the forward and backward")
    validation: Share = Field(default=0, description="share of the chosen edits kept back to measure a validation loss")
    beta: float = Field(
        default=0.1, ge=0, description="with pairs: strength of the preference; with grpo: weight of the KL"
    )
    ratio_clip: float = Field(default=0.2, gt=0, lt=1, description="with grpo: clip of the probability ratio")
    worker_timeout: float = Field(
        default=600, gt=0, le=LONGEST, description="seconds to wait for the update's workers to start"
    )
    hang_timeout: float = Field(
        default=600, gt=0, le=LONGEST, description="seconds without a step before the update counts as hung"
    )
    collective_timeout: float = Field(default=600, gt=0, le=LONGEST, description="seconds that one collective may take")
    retries: int = Field(default=2, ge=0, le=20, description="starts over after a loss of workers")
    checkpoint_steps: int = Field(
        default=20, ge=0, description="with mode: full, steps between checkpoints that a restart goes on from; 0: none"
    )


class GateSection(Section):
    mode: Literal["off", "auto", "hold"] = Field(
        default="off", description="off: accept all; auto: by the rule; hold: a person decides"
    )
    tasks: int = Field(default=20, ge=1, description="validation tasks")
    edits: int = Field(default=2, ge=1, description="edits per validation task")
    repeats: int = Field(default=1, ge=1, description="training seeds for each of these edits")
    confidence: float = Field(default=0.9, gt=0.5, lt=1, description="of the paired bootstrap")
    min_gain: float = Field(
        default=0,
        description="the gain must not be under this, nor its lower bound under minus tolerance: in shares of "
        "questions with grading.reward: accuracy, else in nats per token of the right answers",
    )
    tolerance: float = Field(
        default=0.05, ge=0, description="loss that the lower bound may show and the version still be accepted"
    )
    regression: str = Field(
        default="", description="questions that must not get worse, as the domain's data; empty: those the base answers"
    )
    max_regression: Share = Field(default=0.05, description="share of those questions that may be lost")
    max_kl: float = Field(
        default=1.0, ge=0, description="nats per token by which the new version may drift from the base on a probe"
    )
    fail_on_reject: bool = Field(default=False, description="exit 4 when the gate rejects")


class EvaluationSection(Section):
    """The learning curve: how the current version's edits do on held-out tasks, those of `domain.test`."""

    every: int = Field(default=0, ge=0, description="rounds between two looks at held-out tasks; 0: never")
    tasks: int = Field(default=20, ge=2, description="held-out tasks, the same ones every time")
    edits: int = Field(default=2, ge=1, description="edits per held-out task")
    repeats: int = Field(default=1, ge=1, description="training seeds for each of these edits")


class KeepSection(Section):
    """How a version that studies keeps what it learned before. What each method assumes is said where it is."""

    method: KeepMethod = Field(
        default="none",
        description="none, fresh, last_layers, replay, distill, ewc, null_space, slao or separate",
    )
    layers: int = Field(default=10, ge=1, description="with last_layers: how many of the last layers are trained")
    share: Share = Field(
        default=0.1,
        description="with replay and distill: lessons of earlier steps in a step, as a share of its own",
    )
    strength: float = Field(default=10, ge=0, description="with ewc: weight of what holds the model back")
    energy: float = Field(
        default=0.95, gt=0, le=1, description="with null_space: share of a layer's inputs that no later step may touch"
    )
    most_rank: int = Field(
        default=256, ge=2, le=512, description="with fresh and null_space: rank of all steps' adapters together"
    )
    router: Literal["texts", "likelihood"] = Field(
        default="texts",
        description="with separate: an adapter is chosen by the words that its texts share with the question, or by "
        "how likely it finds the question",
    )


class StudySection(Section):
    """Texts become a version: many at once (study), or one after another (stream)."""

    split: Literal["train", "validation", "test"] = Field(default="train", description="whose tasks are learned")
    arms: tuple[Word, ...] = Field(
        default=("context", "untrained"),
        min_length=1,
        description="study: where texts come from, side by side: context (the passages alone), untrained, "
        "version:RUN#N, file:PATH#KEY, teacher:URL#MODEL",
    )
    texts: Word = Field(default="context", description="stream: where texts come from, as in arms")
    edits: int = Field(default=1, ge=1, description="edits of a task whose texts are learned")
    tasks: int = Field(default=50, ge=1, description="study: tasks that are learned at once")
    sequences: int = Field(default=1, ge=1, le=1024, description="stream: independent sequences, each of its own tasks")
    steps: int = Field(default=8, ge=1, le=1000, description="stream: studies in a sequence")
    tasks_per_step: int = Field(default=1, ge=1, description="stream: tasks that are learned together in one study")
    measure_every: int = Field(default=1, ge=1, description="stream: steps between two looks at all tasks")
    skills: str = Field(
        default="", description="questions that must not get worse, as the domain's data; empty: the validation tasks"
    )
    open_book: bool = Field(
        default=False, description="also ask with the passage in the prompt: is a fact gone, or only not said?"
    )
    where: Literal["auto", "bank", "update"] = Field(
        default="auto",
        description="bank: where adapters stand, many at once; update: Ray Train and DeepSpeed; auto: what policy.mode "
        "allows, the bank first",
    )
    keep: KeepSection = KeepSection()

    @model_validator(mode="after")
    def _allowed(self) -> "StudySection":
        method = self.keep.method
        if self.where == "update" and method not in UPDATE_METHODS:
            raise ValueError(
                f"keep.method: {method} works in a bank only, and where is update; "
                f"use where: bank, or one of {', '.join(UPDATE_METHODS)}"
            )
        if self.where == "update" and self.sequences > 1:
            raise ValueError(f"sequences: {self.sequences} advance together in a bank only; use where: bank, or 1")
        return self


class PlacementSection(Section):
    mode: Literal["auto", "colocated", "split"] = Field(
        default="auto", description="roles take turns on the same devices, or stand side by side"
    )
    device: Literal["auto", "cpu", "gpu"] = Field(default="auto", description="auto: GPUs if the cluster has any")
    address: str = Field(
        default="auto",
        description="Ray cluster to join; auto: one that is running, else a local one; local: always a new local one",
    )
    samplers: int = Field(default=0, ge=0, description="vLLM engines; 0: as many as fit")
    tensor_parallel: int = Field(default=1, ge=1, le=64, description="GPUs of one vLLM engine")
    across_nodes: bool = Field(default=False, description="let one engine reach over nodes")
    min_workers: int = Field(default=1, ge=1, description="with fewer for longer than worker_grace the round stops")
    max_workers: int = Field(
        default=0, ge=0, description="0: as many as there is work and room for; an autoscaler is asked for them"
    )
    priority: float = Field(
        default=1, gt=0, le=1000, description="weight of this run's share where several runs want one cluster"
    )
    worker_gpus: float = Field(default=1, gt=0, le=1, description="share of a GPU for a worker")
    worker_cpus: float = Field(default=1, gt=0, description="CPUs for a worker")
    trainers: int = Field(default=0, ge=0, description="workers of the policy update; 0: one per GPU, one on CPU")
    trainer_cpus: float = Field(default=1, gt=0, description="CPUs for each of these")
    deadline: float = Field(default=600, gt=0, le=LONGEST, description="seconds to wait for what is missing")
    worker_grace: float = Field(
        default=300, gt=0, le=LONGEST, description="seconds below min_workers before the round stops"
    )
    heartbeat: float = Field(default=10, gt=0, le=LONGEST, description="seconds between signs of life")
    wave_wait: float = Field(
        default=2, ge=0, le=LONGEST, description="seconds that a wave which is not full waits for more"
    )
    window: int = Field(default=16, ge=1, description="tasks from which waves are cut")
    candidate_deadline: float = Field(
        default=900, gt=0, le=LONGEST, description="seconds for a candidate before it is tried elsewhere"
    )
    candidate_retries: int = Field(
        default=2, ge=0, le=20, description="further attempts for a candidate after a loss that was not its own"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "PlacementSection":
        if self.max_workers and self.min_workers > self.max_workers:
            raise ValueError(f"min_workers {self.min_workers} is more than max_workers {self.max_workers}")
        if self.worker_gpus < 1 and abs(1 / self.worker_gpus - round(1 / self.worker_gpus)) > 1e-6:
            raise ValueError(f"worker_gpus {self.worker_gpus} does not divide a GPU; use 1, 0.5, 0.25, …")
        return self


class StorageSection(Section):
    endpoint: HttpUrl = Field(default="", description="URL of an S3 look-alike (MinIO, R2, Ceph)")
    region: str = Field(default="", description="region of the bucket")
    profile: str = Field(
        default="", description="profile in the AWS configuration; credentials come from the usual places"
    )
    encryption: str = Field(default="", description="server-side encryption: AES256 or aws:kms")
    kms_key: str = Field(default="", description="key for aws:kms")
    patience: float = Field(
        default=180, ge=0, le=LONGEST, description="seconds for which a store that does not answer is waited for"
    )
    timeout: float = Field(default=30, gt=0, le=LONGEST, description="seconds for one operation")
    parallel: int = Field(default=16, ge=1, le=256, description="writes at once")
    segment_seconds: float = Field(default=2, gt=0, description="a segment is closed after this long")
    segment_bytes: int = Field(default=1_000_000, ge=1000, description="or at this size")
    lease: float = Field(
        default=60, gt=0, le=LONGEST, description="seconds after which a driver that shows no life may be replaced"
    )
    shared: bool = Field(default=False, description="a local folder that every node sees (NFS, Lustre)")
    stop_within: float = Field(default=2.5, gt=0, le=LONGEST, description="seconds to wind up after SIGTERM")


class ObserveSection(Section):
    progress: Literal["auto", "rich", "plain", "quiet", "json"] = Field(
        default="auto", description="what the terminal shows"
    )
    events: str = Field(default="", description="folder for a copy of the event stream as JSON lines")
    ray_metrics: bool = Field(default=True, description="metrics for Prometheus through Ray")
    tensorboard: str = Field(default="", description="folder for TensorBoard files")
    mlflow: str = Field(default="", description="MLflow tracking URI")
    wandb: str = Field(default="", description="Weights & Biases project")


class Config(Section):
    """A run, whole. Sections that are left out take their defaults."""

    run: RunSection = RunSection()
    model: ModelSection = ModelSection()
    domain: DomainSection = KnowledgeDomain()
    sampling: SamplingSection = SamplingSection()
    inner: InnerSection = InnerSection()
    answering: AnsweringSection = AnsweringSection()
    grading: GradingSection = GradingSection()
    probe: ProbeSection = ProbeSection()
    select: SelectSection = SelectSection()
    policy: PolicySection = PolicySection()
    gate: GateSection = GateSection()
    evaluation: EvaluationSection = EvaluationSection()
    study: StudySection = StudySection()
    placement: PlacementSection = PlacementSection()
    storage: StorageSection = StorageSection()
    observe: ObserveSection = ObserveSection()

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
    "inner.wave",
    "inner.wave_tokens",
)
