"""The nouns of a run as plain data: what travels between processes and what the ledger keeps.

It needs nothing but the standard library, so that every room can import it. Every record is a frozen dataclass;
`encode` and `decode` turn it into JSON values and back, and `digest` names its content.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seal_ray.plain_data import Json, canonical, decode, digest, encode
from seal_ray.records.adapters import ADAPTER, ADAPTER_CONFIG
from seal_ray.records.failure import Blame, Failure
from seal_ray.records.names import NAMED_FIELDS, candidate_id, derive_seed, identity
from seal_ray.records.tasks import AskedAs, Description, EditRequest, Prompt, Question, Split, Task
from seal_ray.records.training import PAPER_RECIPE, Example, MomentKind, Objective, Recipe
from seal_ray.records.trials import (
    Answer,
    Ask,
    Attempt,
    Candidate,
    CandidateKind,
    Cost,
    Edit,
    Likelihood,
    Trial,
    Verdict,
)

if TYPE_CHECKING:
    from seal_ray.records.learning import Choice, Dropping, Estimate, Repeats, Reward, TaskScore, Version
    from seal_ray.records.probes import AskedFor, ProbeCheck, ProbeQuestion, Reply
    from seal_ray.records.studies import Keeping, StudyAttempt, StudyCourse, StudyTrial

__all__ = [
    "ADAPTER",
    "ADAPTER_CONFIG",
    "NAMED_FIELDS",
    "PAPER_RECIPE",
    "Answer",
    "Ask",
    "AskedAs",
    "AskedFor",
    "Attempt",
    "Blame",
    "Candidate",
    "CandidateKind",
    "Choice",
    "Cost",
    "Description",
    "Dropping",
    "Edit",
    "EditRequest",
    "Estimate",
    "Example",
    "Failure",
    "Json",
    "Keeping",
    "Likelihood",
    "MomentKind",
    "Objective",
    "ProbeCheck",
    "ProbeQuestion",
    "Prompt",
    "Question",
    "Recipe",
    "Repeats",
    "Reply",
    "Reward",
    "Split",
    "StudyAttempt",
    "StudyCourse",
    "StudyTrial",
    "Task",
    "TaskScore",
    "Trial",
    "Verdict",
    "Version",
    "candidate_id",
    "canonical",
    "decode",
    "derive_seed",
    "digest",
    "encode",
    "identity",
]


def __getattr__(name: str) -> Any:
    """The nouns that a configuration's check never names are made at first use: dataclasses take their time."""
    if name in __all__:
        for file in ("learning", "probes", "studies"):
            nouns = vars(import_module(f"{__name__}.{file}"))
            if name in nouns:
                return nouns[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
