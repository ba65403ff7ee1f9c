"""A lease's attempts, tried: trained in a bank's slots, questioned, and each given its trial or its failure."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from seal_ray.inner.answer import Answerer, BankAnswerer, Sample, Sampling
from seal_ray.inner.bank import Bank
from seal_ray.inner.capacity import out_of_memory
from seal_ray.inner.frozen import Frozen
from seal_ray.inner.loop import fit
from seal_ray.inner.memory import TOKENS_LIMIT
from seal_ray.inner.recipe import check_recipe
from seal_ray.records import Answer, Ask, Attempt, Blame, Cost, Failure, Likelihood, StudyAttempt, StudyTrial, Trial


def try_wave(
    model: Any,
    tokenizer: Any,
    attempts: Sequence[Attempt],
    *,
    wave: int = 0,
    tokens_limit: int = TOKENS_LIMIT,
    worker: str = "",
    answerer: Answerer | None = None,
    dropped: Callable[[str], bool] | None = None,
) -> list[Trial]:
    """Trains and questions every attempt; one trial each, in the order of the attempts.

    At most `wave` candidates are in training at once, 0: as many as fit into free memory. `dropped` is asked before
    every step whether a candidate, by its id, should be given up. What is wrong with one candidate is its trial's
    failure and touches no other. Raises ValueError for a recipe that no candidate could be trained with on this model.
    """
    lease = WaveRun(model, tokenizer, wave, tokens_limit, worker, answerer or BankAnswerer(), dropped)
    for recipe in dict.fromkeys(a.candidate.recipe for a in attempts):
        if recipe is not None:
            check_recipe(recipe, lease.frozen.layers, lease.frozen.head_name)
    trials: dict[int, Trial] = {}
    waiting = [list(range(len(attempts)))] if attempts else []
    while waiting:
        numbers = waiting.pop(0)
        own = _without_overflow(lease, [attempts[n] for n in numbers])
        if own is None and len(numbers) > 1:
            half = (len(numbers) + 1) // 2
            waiting[:0] = [numbers[:half], numbers[half:]]
            continue
        if own is None:  # one candidate: activations twice computed are the last thing to save memory with
            own = _without_overflow(lease, [attempts[numbers[0]]], checkpointing=True)
        trials.update(zip(numbers, own or [lease.overflow(attempts[numbers[0]])], strict=True))
    return [trials[n] for n in range(len(attempts))]


def _without_overflow(lease: "WaveRun", attempts: list[Attempt], checkpointing: bool = False) -> list[Trial] | None:
    """The trials of a wave, or None if memory ran out; by then what the wave held is given back."""
    try:
        return lease.run(attempts, checkpointing)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


@dataclass
class Outcome:
    """What one candidate has come to so far."""

    failure: Failure | None = None
    answers: list[Answer] = field(default_factory=list)
    likelihoods: list[Likelihood] = field(default_factory=list)
    distractors: list[Likelihood] = field(default_factory=list)
    asked: int = 0  # tokens that went through the model for its questions

    def fail(self, kind: str, message: str, blame: Blame = "data") -> None:
        if self.failure is None:
            self.failure = Failure(kind, message, blame)


class WaveRun:
    """How the waves of one lease are run."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        slots: int,
        tokens_limit: int,
        worker: str,
        answerer: Answerer,
        dropped: Callable[[str], bool] | None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.slots, self.tokens_limit = slots, tokens_limit
        self.worker, self.answerer, self.dropped = worker, answerer, dropped
        self.frozen = Frozen(model)
        self.eos_ids = end_ids(self.frozen, tokenizer)

    def run(self, attempts: list[Attempt], checkpointing: bool) -> list[Trial]:
        """Train, answer, take likelihoods."""
        started = time.perf_counter()
        dropped = self.dropped
        bank = fit(
            self.model,
            [list(a.examples) for a in attempts],
            [a.candidate.recipe for a in attempts],
            [a.candidate.seed for a in attempts],
            slots=self.slots,
            tokens_limit=self.tokens_limit,
            checkpointing=checkpointing,
            dropped=None if dropped is None else lambda i: dropped(attempts[i].candidate.id),
            continued=[a.course if isinstance(a, StudyAttempt) else None for a in attempts],
        )
        self._settle()
        fitted = time.perf_counter()
        outcomes = [Outcome(failure) for failure in bank.failures]
        for attempt, one in zip(attempts, outcomes, strict=True):
            self._check_asks(attempt, one)
        self._answer(bank, attempts, outcomes)
        self._likelihood(bank, attempts, outcomes)
        self._settle()
        ended = time.perf_counter()
        fit_shares = _shares([_trained_tokens(a) for a in attempts], fitted - started)
        answer_shares = _shares([f.asked for f in outcomes], ended - fitted)
        trials = []
        for i, (attempt, one) in enumerate(zip(attempts, outcomes, strict=True)):
            cost = Cost(
                seconds=fit_shares[i] + answer_shares[i],
                fit_seconds=fit_shares[i],
                answer_seconds=answer_shares[i],
                tokens=_trained_tokens(attempt),
                steps=len(bank.losses[i]),
                taught=bank.taught[i],
                written=bank.written[i],
            )
            trial = self._trial(attempt, one, cost, tuple(bank.losses[i]))
            trials.append(StudyTrial(**vars(trial), files=bank.files[i]) if i in bank.files else trial)
        return trials

    def overflow(self, attempt: Attempt) -> Trial:
        message = f"the candidate alone does not fit into the memory of {self.frozen.device}"
        return self._trial(attempt, Outcome(Failure("out_of_memory", message, "infra")), Cost(), ())

    def _trial(self, attempt: Attempt, outcome: Outcome, cost: Cost, losses: tuple[float, ...]) -> Trial:
        failed = outcome.failure is not None
        return Trial(
            candidate=attempt.candidate.id,
            task=attempt.candidate.task,
            losses=losses,
            answers=() if failed else tuple(outcome.answers),
            likelihoods=() if failed else tuple(outcome.likelihoods),
            distractors=() if failed else tuple(outcome.distractors),
            cost=cost,
            worker=self.worker,
            failure=outcome.failure,
        )

    def _settle(self) -> None:
        if self.frozen.device.type == "cuda":
            torch.cuda.synchronize(self.frozen.device)

    def _check_asks(self, attempt: Attempt, outcome: Outcome) -> None:
        """A question that the model can't be asked fails its candidate before it could stop the wave."""
        context, vocabulary = self.frozen.context, self.frozen.vocabulary
        for ask in attempt.asks:
            ids = [*ask.prompt_ids, *(t for target in (*ask.gold_ids, *ask.distractor_ids) for t in target)]
            longest = len(ask.prompt_ids) + max([ask.max_tokens, *map(len, ask.gold_ids)])
            if not ask.prompt_ids or ask.max_tokens < 1:
                outcome.fail("bad_question", f"question {ask.question!r} has no prompt, or may have no answer")
            elif longest > context:
                outcome.fail("too_long", f"question {ask.question!r} takes {longest} tokens; the context is {context}")
            elif min(ids) < 0 or max(ids) >= vocabulary:
                outcome.fail(
                    "bad_token", f"question {ask.question!r} has a token id outside the vocabulary {vocabulary}"
                )

    def _answer(self, bank: Bank, attempts: list[Attempt], outcomes: list[Outcome]) -> None:
        """Asks all questions; those that are to be answered in another way go separately."""
        kinds = dict.fromkeys(_how(k) for a in attempts for k in a.asks)
        drawn: list[dict[int, list[Answer]]] = [{} for _ in attempts]
        for kind in kinds:
            chosen = [
                [n for n, k in enumerate(a.asks) if _how(k) == kind and not f.failure]
                for a, f in zip(attempts, outcomes, strict=True)
            ]
            if not any(chosen):
                continue
            max_tokens, stop, temperature, top_p, samples = kind
            sampling = Sampling(
                max_tokens,
                temperature,
                samples,
                self.eos_ids,
                stop=stopper(self.tokenizer, stop),
                stop_texts=stop,
                top_p=top_p,
            )
            prompts = [[a.asks[n].prompt_ids for n in ns] for a, ns in zip(attempts, chosen, strict=True)]
            answers = self.answerer.answer(bank, prompts, sampling)
            for i, (attempt, ns) in enumerate(zip(attempts, chosen, strict=True)):
                for n, samples in zip(ns, answers[i], strict=True):
                    ask = attempt.asks[n]
                    outcomes[i].asked += len(ask.prompt_ids) + sum(len(s.ids) for s in samples)
                    if any(s.finish == "nan" for s in samples):
                        outcomes[i].fail(
                            "nan_answer", f"question {ask.question!r}: the model put out values that are no numbers"
                        )
                    if broken := [s.finish for s in samples if s.finish in ("error", "abort")]:
                        outcomes[i].fail(
                            "answer", f"question {ask.question!r}: vLLM ended it with {broken[0]!r}", "infra"
                        )
                    drawn[i][n] = [self._as_answer(ask, s, k) for k, s in enumerate(samples)]
        for one, own in zip(outcomes, drawn, strict=True):
            one.answers = [answer for n in sorted(own) for answer in own[n]]

    def _as_answer(self, ask: Ask, sample: Sample, number: int) -> Answer:
        ids = [t for t in sample.ids if t not in self.eos_ids]
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        ends = [at for s in ask.stop if s and (at := text.find(s)) >= 0]
        text = text[: min(ends)] if ends else text
        return Answer(ask.question, text, len(sample.ids), sample.finish, sum(sample.logprobs), number)

    def _likelihood(self, bank: Bank, attempts: list[Attempt], outcomes: list[Outcome]) -> None:
        wanted = [
            []
            if f.failure
            else [
                (ask, number, target, into)
                for ask in a.asks
                for targets, into in ((ask.gold_ids, f.likelihoods), (ask.distractor_ids, f.distractors))
                for number, target in enumerate(targets)
                if target and len(ask.prompt_ids) + len(target) <= self.frozen.context  # a wrong answer may be longer
            ]
            for a, f in zip(attempts, outcomes, strict=True)
        ]
        if not any(wanted):
            return
        pairs = [[(ask.prompt_ids, target) for ask, _, target, _ in own] for own in wanted]
        for one, own, scores in zip(outcomes, wanted, self.answerer.likelihood(bank, pairs), strict=True):
            for (ask, number, _, into), (logprob, tokens) in zip(own, scores, strict=True):
                one.asked += len(ask.prompt_ids) + tokens
                if not abs(logprob) < float("inf"):
                    one.fail("nan_likelihood", f"question {ask.question!r}: the answer's likelihood is {logprob}")
                into.append(Likelihood(ask.question, number, logprob, tokens))


def _how(ask: Ask) -> tuple[int, tuple[str, ...], float, float, int]:
    """All that decides how an answer is drawn."""
    return ask.max_tokens, ask.stop, ask.temperature, ask.top_p, ask.samples


def stopper(tokenizer: Any, stop: tuple[str, ...]) -> Callable[[Sequence[int]], bool] | None:
    """Whether an answer's last tokens hold one of the stop texts."""
    texts = [s for s in stop if s]
    if not texts:
        return None
    tail = 4 * max(map(len, texts)) + 8  # a character may take as many as four tokens

    def stopped(ids: Sequence[int]) -> bool:
        end = tokenizer.decode(list(ids[-tail:]), skip_special_tokens=True)
        return any(s in end for s in texts)

    return stopped


def end_ids(frozen: Frozen, tokenizer: Any) -> tuple[int, ...]:
    """Every token by which the model may end a text."""
    own = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return tuple(sorted({*frozen.end_ids, *own}))


def _trained_tokens(attempt: Attempt) -> int:
    recipe = attempt.candidate.recipe
    if recipe is None:
        return 0
    return recipe.epochs * sum(max(len(e.ids), recipe.pad_to) for e in attempt.examples)


def _shares(amounts: Sequence[int], seconds: float) -> list[float]:
    """Time split by what each has used of it."""
    total = sum(amounts)
    return [seconds * a / total if total else seconds / len(amounts) for a in amounts]
