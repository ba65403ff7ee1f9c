"""A task's questions as a worker needs them: token ids, and nothing of what they mean."""

from typing import Any

from seal_ray import models
from seal_ray.config import AnsweringSection
from seal_ray.domains.base import Domain
from seal_ray.records import Ask, Task


def asks_of(task: Task, domain: Domain, tokenizer: Any, answering: AnsweringSection) -> tuple[Ask, ...]:
    asks = []
    for q in domain.questions(task):
        end = (tokenizer.eos_token_id,) if q.end_answer else ()
        wrong = task.distractors.get(q.id, ())
        gold, wrong = (
            tuple((*models.text_ids(tokenizer, q.lead + text), *end) for text in texts) for texts in (q.gold, wrong)
        )
        limit = min(q.max_tokens, answering.max_tokens)
        # a thought may hold what ends an answer: then the answer is cut when it is read
        stop = () if q.prompt.chat and models.thinks(tokenizer) else q.stop
        prompt, how = models.render(tokenizer, q.prompt), (answering.temperature, answering.top_p, answering.samples)
        asks.append(Ask(q.id, tuple(prompt), gold, limit, stop, wrong, *how))
    return tuple(asks)
