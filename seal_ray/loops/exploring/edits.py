"""How edits are asked for, and how what was written is read."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

from seal_ray import models
from seal_ray.domains.base import Domain
from seal_ray.grading.diversity import similarity
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.session import Session
from seal_ray.records import Edit, Failure, Task, derive_seed
from seal_ray.sampling.sampler import EditPrompt


def prompts_of(session: Session, plan: Plan, task: Task) -> Iterator[EditPrompt]:
    """What the policy is asked for, slot by slot."""
    section, seed = session.config.sampling, session.config.run.seed
    for slot in range(plan.edits):
        ask = session.domain.edit_request(task, slot)
        yield EditPrompt(
            task=task.id,
            slot=slot,
            prompt_ids=tuple(models.render(session.tokenizer, ask.prompt)),
            seed=derive_seed(seed, plan.salt, task.id, slot, "edit"),
            temperature=section.temperature if ask.temperature is None else ask.temperature,
            top_p=section.top_p if ask.top_p is None else ask.top_p,
            max_tokens=section.max_tokens if ask.max_tokens is None else ask.max_tokens,
            schema=ask.schema,
            style=ask.style,
        )


def parsed(domain: Domain, task: Task, written: Sequence[Edit], drop_near_copies: float) -> list[Edit]:
    """A task's edits as the domain reads them, each with its content or why it has none."""
    edits: list[Edit] = []
    for edit in written:
        edits.append(_parse(domain, task, edit, edits, drop_near_copies))
    return edits


def _parse(domain: Domain, task: Task, edit: Edit, earlier: Sequence[Edit], drop_near_copies: float) -> Edit:
    if edit.failure:
        return edit
    if not all(map(math.isfinite, edit.logprobs)):
        failure = Failure("nan_logprob", "the log-probability of a sampled token is no number")
        return dataclasses.replace(edit, logprobs=(), failure=failure)
    content = domain.parse(task, edit.text)
    if isinstance(content, Failure):
        return dataclasses.replace(edit, failure=content)
    for other in earlier:
        if other.failure:
            continue
        if other.content == content:
            copy = Failure("copy", f"the same as the edit in slot {other.slot}")
        elif drop_near_copies and similarity(str(other.content), str(content)) >= drop_near_copies:
            copy = Failure("near_copy", f"nearly the same as the edit in slot {other.slot}")
        else:
            continue
        return dataclasses.replace(edit, content=content, failure=copy)
    return dataclasses.replace(edit, content=content)
