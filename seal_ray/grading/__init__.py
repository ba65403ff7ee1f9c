"""What answers are worth: graders, and rewards made of their verdicts."""

from typing import TYPE_CHECKING

from seal_ray.config import GradingSection, StorageSection

if TYPE_CHECKING:
    from seal_ray.grading.endpoint import Endpoint
    from seal_ray.grading.judge import CascadeGrader, JudgeGrader
    from seal_ray.grading.lexical import ExactGrader, LexicalGrader

    Graders = LexicalGrader | ExactGrader | JudgeGrader | CascadeGrader


def build(section: GradingSection, uri: str = "", storage: StorageSection | None = None) -> "Graders":
    """The configured grader. What a judge said is kept under `judge_cache`, else under the run's `uri`."""
    from seal_ray.grading.lexical import ExactGrader, LexicalGrader

    if section.grader == "lexical":
        return LexicalGrader()
    if section.grader == "exact":
        return ExactGrader()
    from seal_ray.grading.cache import StoredCache
    from seal_ray.grading.judge import CascadeGrader, JudgeGrader
    from seal_ray.storage.store import Store

    root = section.judge_cache or (f"{uri.rstrip('/')}/judge" if uri else "")
    store = Store(root, storage) if root else None
    judge = JudgeGrader(judge_endpoint(section), StoredCache(store.read, store.create, store.write) if store else None)
    return judge if section.grader == "judge" else CascadeGrader(judge, section.cascade_low, section.cascade_high)


def judge_endpoint(section: GradingSection) -> "Endpoint":
    """The configured judge's endpoint, also for the rubric."""
    from seal_ray.grading.endpoint import Endpoint

    return Endpoint(
        section.judge_url,
        section.judge_model,
        section.judge_key_env,
        section.judge_parallel,
        section.judge_timeout,
        section.judge_retries,
        section.judge_price_in,
        section.judge_price_out,
    )
