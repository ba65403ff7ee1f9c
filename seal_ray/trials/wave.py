"""A lease's attempts, tried: cut into waves, trained, questioned, and each given its trial or its failure."""

import ctypes
import gc
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from seal_ray.inner.answer import Answerer, BankAnswerer, Sample, Sampling
from seal_ray.inner.bank import Bank
from seal_ray.inner.frozen import Frozen
from seal_ray.inner.loop import fit
from seal_ray.inner.memory import wave_size
from seal_ray.inner.recipe import check_recipe
from seal_ray.records import Answer, Ask, Attempt, Cost, Failure, Likelihood, Trial
from seal_ray.shapes import shape_of

CPU_SHARE = 0.5  # of free main memory: a node's other processes want some too
GPU_SHARE = 0.9


def try_wave(
    model: Any,
    tokenizer: Any,
    attempts: Sequence[Attempt],
    *,
    temperature: float = 0.0,
    samples: int = 1,
    wave: int = 0,
    tokens_limit: int = 16384,
    worker: str = "",
    answerer: Answerer | None = None,
) -> list[Trial]:
    """Trains and questions every attempt; one trial each, in the order of the attempts.

    What is wrong with one candidate is its trial's failure and touches no other. Raises ValueError for a recipe that
    no candidate could be trained with on this model.
    """
    lease = WaveRun(model, tokenizer, temperature, samples, tokens_limit, worker, answerer or BankAnswerer())
    for recipe in dict.fromkeys(a.candidate.recipe for a in attempts):
        if recipe is not None:
            check_recipe(recipe, lease.frozen.layers, lease.frozen.head_name)
    trials: dict[int, Trial] = {}
    waiting = cut_waves(lease.frozen, attempts, wave, tokens_limit)
    while waiting:
        numbers = waiting.pop(0)
        found = _without_overflow(lease, [attempts[n] for n in numbers])
        if found is None and len(numbers) > 1:
            half = (len(numbers) + 1) // 2
            waiting[:0] = [numbers[:half], numbers[half:]]
            continue
        if found is None:  # one candidate: activations twice computed are the last thing to save memory with
            found = _without_overflow(lease, [attempts[numbers[0]]], checkpointing=True)
        trials.update(zip(numbers, found or [lease.overflow(attempts[numbers[0]])], strict=True))
    return [trials[n] for n in range(len(attempts))]


def cut_waves(frozen: Frozen, attempts: Sequence[Attempt], wave: int, tokens_limit: int) -> list[list[int]]:
    """Which attempts are trained together: those of like step counts, as many as fit; baselines join the first.

    A wave is as long as its longest member, so like goes with like; the waves are of like size.
    """
    trained = [n for n, a in enumerate(attempts) if a.candidate.recipe is not None and a.examples]
    rest = [n for n in range(len(attempts)) if n not in set(trained)]
    trained.sort(key=lambda n: (-attempts[n].steps, -attempts[n].tokens, n))
    size = wave or fitting(frozen, [attempts[n] for n in trained], tokens_limit)
    count = -(-len(trained) // size)
    bounds = [len(trained) * k // max(1, count) for k in range(count + 1)]
    waves = [trained[a:b] for a, b in itertools.pairwise(bounds)]
    if not waves:
        return [rest] if rest else []
    return [waves[0] + rest, *waves[1:]]


def fitting(frozen: Frozen, attempts: Sequence[Attempt], tokens_limit: int) -> int:
    """How many of these attempts can be trained at once in the memory that is free now."""
    if not attempts:
        return 1
    config = frozen.base.config.get_text_config().to_dict()
    recipes = [a.candidate.recipe for a in attempts if a.candidate.recipe is not None]
    device = frozen.device.type
    try:
        return wave_size(
            free_memory(frozen.device),
            shape_of(config),
            dtype_bytes=frozen.dtype.itemsize,
            text_tokens=max(
                max(len(e.ids), r.pad_to) for a, r in zip(attempts, recipes, strict=True) for e in a.examples
            ),
            rank=max(r.rank for r in recipes),
            targets=tuple({t for r in recipes for t in r.targets}),
            batch=max(r.batch_size * r.accumulation for r in recipes),
            tokens_limit=tokens_limit,
            device=device,
            share=CPU_SHARE if device == "cpu" else GPU_SHARE,
        )
    except ValueError:
        return 16  # a configuration without the usual names: begin here, running out of memory halves it


def free_memory(device: torch.device) -> int:
    """Bytes that can really be had: what is free, and what this process keeps unused."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free + _kept_unused()


class _Heap(ctypes.Structure):
    """What glibc's `mallinfo2` gives."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names)


def _kept_unused() -> int:
    """Bytes that were given back to glibc and not by glibc to the system; a bank's next step has them first."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return 0  # another C library, which keeps little
    ask.restype = _Heap
    return int(ask().fordblks)


def _without_overflow(lease: "WaveRun", attempts: list[Attempt], checkpointing: bool = False) -> list[Trial] | None:
    """The trials of a wave, or None if memory ran out; by then what the wave held is given back."""
    try:
        return lease.run(attempts, checkpointing)
    except (MemoryError, torch.OutOfMemoryError):
        pass
    except RuntimeError as error:  # main memory: torch has no class of its own for it
        if "can't allocate memory" not in str(error):
            raise
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


@dataclass
class Found:
    """What one candidate has come to so far."""

    failure: Failure | None = None
    answers: list[Answer] = field(default_factory=list)
    likelihoods: list[Likelihood] = field(default_factory=list)
    asked: int = 0  # tokens that went through the model for its questions

    def fail(self, kind: str, message: str) -> None:
        if self.failure is None:
            self.failure = Failure(kind, message)


class WaveRun:
    """How the waves of one lease are run."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        temperature: float,
        samples: int,
        tokens_limit: int,
        worker: str,
        answerer: Answerer,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.temperature, self.samples = temperature, samples
        self.tokens_limit, self.worker, self.answerer = tokens_limit, worker, answerer
        self.frozen = Frozen(model)
        self.eos_ids = end_ids(self.frozen, tokenizer)

    def run(self, attempts: list[Attempt], checkpointing: bool) -> list[Trial]:
        """One wave: train, answer, take likelihoods."""
        started = time.perf_counter()
        bank = fit(
            self.model,
            [list(a.examples) for a in attempts],
            [a.candidate.recipe for a in attempts],
            [a.candidate.seed for a in attempts],
            tokens_limit=self.tokens_limit,
            checkpointing=checkpointing,
        )
        self._settle()
        fitted = time.perf_counter()
        found = [Found(failure) for failure in bank.failures]
        for attempt, one in zip(attempts, found, strict=True):
            self._check_asks(attempt, one)
        self._answer(bank, attempts, found)
        self._likelihood(bank, attempts, found)
        self._settle()
        ended = time.perf_counter()
        fit_shares = _shares([_trained_tokens(a) for a in attempts], fitted - started)
        answer_shares = _shares([f.asked for f in found], ended - fitted)
        trials = []
        for i, (attempt, one) in enumerate(zip(attempts, found, strict=True)):
            cost = Cost(
                seconds=fit_shares[i] + answer_shares[i],
                fit_seconds=fit_shares[i],
                answer_seconds=answer_shares[i],
                tokens=_trained_tokens(attempt),
                steps=len(bank.losses[i]),
            )
            trials.append(self._trial(attempt, one, cost, tuple(bank.losses[i])))
        return trials

    def overflow(self, attempt: Attempt) -> Trial:
        message = f"the candidate alone does not fit into the memory of {self.frozen.device}"
        return self._trial(attempt, Found(Failure("out_of_memory", message, "infra")), Cost(), ())

    def _trial(self, attempt: Attempt, found: Found, cost: Cost, losses: tuple[float, ...]) -> Trial:
        failed = found.failure is not None
        return Trial(
            candidate=attempt.candidate.id,
            task=attempt.candidate.task,
            losses=losses,
            answers=() if failed else tuple(found.answers),
            likelihoods=() if failed else tuple(found.likelihoods),
            cost=cost,
            worker=self.worker,
            failure=found.failure,
        )

    def _settle(self) -> None:
        if self.frozen.device.type == "cuda":
            torch.cuda.synchronize(self.frozen.device)

    def _check_asks(self, attempt: Attempt, found: Found) -> None:
        """A question that the model can't be asked fails its candidate before it could stop the wave."""
        context, vocabulary = self.frozen.context, self.frozen.vocabulary
        for ask in attempt.asks:
            ids = [*ask.prompt_ids, *(t for gold in ask.gold_ids for t in gold)]
            longest = len(ask.prompt_ids) + max([ask.max_tokens, *map(len, ask.gold_ids)])
            if not ask.prompt_ids or ask.max_tokens < 1:
                found.fail("bad_question", f"question {ask.question!r} has no prompt, or may have no answer")
            elif longest > context:
                found.fail("too_long", f"question {ask.question!r} takes {longest} tokens; the context is {context}")
            elif min(ids) < 0 or max(ids) >= vocabulary:
                found.fail("bad_token", f"question {ask.question!r} has a token id outside the vocabulary {vocabulary}")

    def _answer(self, bank: Bank, attempts: list[Attempt], found: list[Found]) -> None:
        """Asks all questions; those with other limits or stops go separately."""
        kinds = dict.fromkeys((k.max_tokens, k.stop) for a in attempts for k in a.asks)
        drawn: list[dict[int, list[Answer]]] = [{} for _ in attempts]
        for max_tokens, stop in kinds:
            chosen = [
                [n for n, k in enumerate(a.asks) if (k.max_tokens, k.stop) == (max_tokens, stop) and not f.failure]
                for a, f in zip(attempts, found, strict=True)
            ]
            if not any(chosen):
                continue
            sampling = Sampling(
                max_tokens,
                self.temperature,
                self.samples,
                self.eos_ids,
                stop=stopper(self.tokenizer, stop),
                stop_texts=stop,
            )
            prompts = [[a.asks[n].prompt_ids for n in ns] for a, ns in zip(attempts, chosen, strict=True)]
            answers = self.answerer.answer(bank, prompts, sampling)
            for i, (attempt, ns) in enumerate(zip(attempts, chosen, strict=True)):
                for n, samples in zip(ns, answers[i], strict=True):
                    ask = attempt.asks[n]
                    found[i].asked += len(ask.prompt_ids) + sum(len(s.ids) for s in samples)
                    if any(s.finish == "nan" for s in samples):
                        found[i].fail(
                            "nan_answer", f"question {ask.question!r}: the model put out values that are no numbers"
                        )
                    drawn[i][n] = [self._as_answer(ask, s, k) for k, s in enumerate(samples)]
        for one, own in zip(found, drawn, strict=True):
            one.answers = [answer for n in sorted(own) for answer in own[n]]

    def _as_answer(self, ask: Ask, sample: Sample, number: int) -> Answer:
        ids = [t for t in sample.ids if t not in self.eos_ids]
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        ends = [at for s in ask.stop if s and (at := text.find(s)) >= 0]
        text = text[: min(ends)] if ends else text
        return Answer(ask.question, text, len(sample.ids), sample.finish, sum(sample.logprobs), number)

    def _likelihood(self, bank: Bank, attempts: list[Attempt], found: list[Found]) -> None:
        wanted = [
            [] if f.failure else [(k, g) for k in a.asks for g, gold in enumerate(k.gold_ids) if gold]
            for a, f in zip(attempts, found, strict=True)
        ]
        if not any(wanted):
            return
        pairs = [[(k.prompt_ids, k.gold_ids[g]) for k, g in own] for own in wanted]
        for one, own, scores in zip(found, wanted, self.answerer.likelihood(bank, pairs), strict=True):
            for (ask, gold), (logprob, tokens) in zip(own, scores, strict=True):
                one.asked += len(ask.prompt_ids) + tokens
                if not abs(logprob) < float("inf"):
                    one.fail("nan_likelihood", f"question {ask.question!r}: the answer's likelihood is {logprob}")
                one.likelihoods.append(Likelihood(ask.question, gold, logprob, tokens))


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
    ids: set[int] = set()
    for value in (
        getattr(getattr(frozen.base, "generation_config", None), "eos_token_id", None),
        frozen.base.config.get_text_config().eos_token_id,
        tokenizer.eos_token_id,
    ):
        ids.update(value if isinstance(value, (list, tuple)) else [value] if value is not None else [])
    return tuple(sorted(ids))


def _trained_tokens(attempt: Attempt) -> int:
    recipe = attempt.candidate.recipe
    if recipe is None:
        return 0
    return recipe.epochs * sum(max(len(e.ids), recipe.pad_to) for e in attempt.examples)


def _shares(amounts: Sequence[int], seconds: float) -> list[float]:
    """Time split by what each has used of it."""
    total = sum(amounts)
    return [seconds * a / total if total else seconds / len(amounts) for a in amounts]
