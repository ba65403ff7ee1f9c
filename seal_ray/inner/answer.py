"""Answers and likelihoods: greedy or sampled continuations for all adapters and questions of a wave at once."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from seal_ray.inner.attention import KeyValueCache
from seal_ray.inner.head import log_probabilities
from seal_ray.inner.layout import Block, Text, cut, order, pack
from seal_ray.inner.products import Adapters
from seal_ray.records import derive_seed

if TYPE_CHECKING:
    from seal_ray.inner.bank import Bank

Ids = Sequence[int]
COMPACT_AT = 0.8  # rows are moved together when fewer than this share of them is still being continued


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn. `stop` sees an answer's ids so far and says whether it is complete."""

    max_tokens: int
    temperature: float = 0.0  # 0 is greedy
    samples: int = 1
    eos_ids: tuple[int, ...] = ()
    stop: Callable[[Ids], bool] | None = None
    seed: int = 0
    stop_texts: tuple[str, ...] = ()  # what `stop` looks for, for an answerer that has a tokenizer of its own
    top_p: float = 1.0  # the likeliest tokens that together have this share are drawn from


@dataclass(frozen=True)
class Sample:
    """One answer: its ids (with the token that ended it), and each one's log-probability when it was drawn."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: str  # stop, length; nan where the model put out no numbers; error or abort where an engine gave up


class Answerer(Protocol):
    """Who answers with a wave's adapters: the bank that trained them, or an engine that they were exported to."""

    def answer(self, bank: "Bank", prompts: Sequence[Sequence[Ids]], sampling: Sampling) -> list[list[list[Sample]]]:
        """For each adapter, prompt and sample an answer; no prompts for an adapter give an empty list."""
        ...

    def likelihood(self, bank: "Bank", pairs: Sequence[Sequence[tuple[Ids, Ids]]]) -> list[list[tuple[float, int]]]:
        """For each adapter and (prompt, target) the target's log-probability and number of tokens."""
        ...


class BankAnswerer:
    """The bank answers itself: no adapter crosses a process."""

    def answer(self, bank: "Bank", prompts: Sequence[Sequence[Ids]], sampling: Sampling) -> list[list[list[Sample]]]:
        return bank.answer(prompts, sampling)

    def likelihood(self, bank: "Bank", pairs: Sequence[Sequence[tuple[Ids, Ids]]]) -> list[list[tuple[float, int]]]:
        return bank.likelihood(pairs)


@dataclass
class Continuation:
    """One answer in the making."""

    adapter: int
    prompt: int
    sample: int
    draws: list[float]  # uniform numbers, one a token: they depend on seed, adapter, prompt and sample alone
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: str = ""

    def take(self, token: int, logprob: float, sampling: Sampling) -> None:
        if not math.isfinite(logprob):
            self.finish = "nan"
            return
        self.ids.append(token)
        self.logprobs.append(logprob)
        if token in sampling.eos_ids or (sampling.stop is not None and sampling.stop(self.ids)):
            self.finish = "stop"
        elif len(self.ids) >= sampling.max_tokens:
            self.finish = "length"


@torch.no_grad()
def generate(bank: "Bank", prompts: Sequence[Sequence[Ids]], sampling: Sampling) -> list[list[list[Sample]]]:
    """Continues every prompt of every adapter."""
    with bank.attached():
        return continuations(bank, prompts, sampling)


def continuations(bank: "Bank", prompts: Sequence[Sequence[Ids]], sampling: Sampling) -> list[list[list[Sample]]]:
    """The same while the bank is attached, as many at once as its limit of tokens allows."""
    out: list[list[list[Sample]]] = [[[] for _ in own] for own in prompts]
    todo: list[tuple[int, int]] = [(i, j) for i, own in enumerate(prompts) for j in range(len(own))]
    for i, j in todo:
        if not prompts[i][j]:
            raise ValueError(f"prompt {j} of adapter {i} is empty; a model continues at least one token")
        if len(prompts[i][j]) + sampling.max_tokens > bank.frozen.context:
            raise ValueError(
                f"prompt {j} of adapter {i} has {len(prompts[i][j])} tokens; with {sampling.max_tokens} for the answer"
                f" it is over the model's context of {bank.frozen.context}"
            )
    while todo:
        group, size = [], 0
        while todo and (not group or size + len(prompts[todo[0][0]][todo[0][1]]) * sampling.samples <= bank.room):
            if len({i for i, _ in group} | {todo[0][0]}) > bank.together:
                break
            i, j = todo.pop(0)
            size += (len(prompts[i][j]) + sampling.max_tokens) * sampling.samples
            group.append((i, j))
        for row in _continue(bank, prompts, group, sampling):
            out[row.adapter][row.prompt].append(Sample(tuple(row.ids), tuple(row.logprobs), row.finish))
    return out


def _continue(
    bank: "Bank", prompts: Sequence[Sequence[Ids]], group: list[tuple[int, int]], sampling: Sampling
) -> list[Continuation]:
    rows = [
        Continuation(i, j, s, draws(bank.seeds[i], j, s, sampling)) for i, j in group for s in range(sampling.samples)
    ]
    cache, hidden, filled = _prefill(bank, prompts, group)
    at = {pair: number for number, pair in enumerate(filled)}
    logits = bank.frozen.head(hidden) if bank.frozen.head_name not in bank.stack.widths else hidden
    # every sample of a question begins from the same prompt
    physical: list[Continuation | None] = list(rows)
    first = [at[row.adapter, row.prompt] for row in rows]
    cache.select(first)
    _choose(physical, logits[torch.tensor(first, device=logits.device)], sampling)
    blocks, adapters = [], {}
    arranged = False
    while any(row is not None and not row.finish for row in physical):
        alive = [row is not None and not row.finish for row in physical]
        if not arranged or sum(alive) < COMPACT_AT * sum(row is not None for row in physical):
            physical, index, blocks, adapters = _arrange(bank, physical)
            cache.select(index)
            arranged = True
        cache.step()
        ids = [row.ids[-1] if row is not None and row.ids else 0 for row in physical]
        hidden = bank.frozen.hidden(ids, cache.lengths, blocks, adapters, cache)
        cache.lengths += 1
        _choose(physical, bank.frozen.head(hidden), sampling)
    return rows


def _prefill(
    bank: "Bank", prompts: Sequence[Sequence[Ids]], group: list[tuple[int, int]]
) -> tuple[KeyValueCache, Tensor, list[tuple[int, int]]]:
    """Runs the prompts, as many rows in a forward as its limit allows; gives what was kept of them and the last row
    (hidden, or logits of an adapted head) of each."""
    texts, owners, plain = by_owner(bank, [(i, Text(n, prompts[i][j])) for n, (i, j) in enumerate(group)])
    adapters, cache = bank.adapters(owners), KeyValueCache()
    filled: list[Text] = []
    rows = []
    for layout in pack(texts, plain, limit=bank.tokens_limit, cost=bank.frozen.block_cost):
        hidden = bank.frozen.packed(layout, adapters, cache)
        if bank.frozen.head_name in bank.stack.widths:
            hidden = bank.frozen.head(hidden)
        last = [start + len(t.ids) - 1 for t, start in zip(layout.texts, layout.starts, strict=True)]
        rows.append(hidden[torch.tensor(last, device=hidden.device)])
        filled += layout.texts
    cache.begin([len(t.ids) for t in filled], bank.frozen.device)
    return cache, torch.cat(rows), [group[t.key] for t in filled]


def by_owner(bank: "Bank", texts: Sequence[tuple[int, Text]]) -> tuple[list[list[Text]], list[int], list[Text]]:
    """Texts by adapter in order of position, whose these are, and the texts of those that have no adapter."""
    own: dict[int, list[Text]] = {}
    plain = []
    for adapter, text in texts:
        if adapter in bank.weights:
            own.setdefault(adapter, []).append(text)
        else:
            plain.append(text)
    adapters, lists = list(own), list(own.values())
    standing = order(lists)
    return [lists[p] for p in standing], [adapters[p] for p in standing], plain


def _arrange(
    bank: "Bank", physical: list[Continuation | None]
) -> tuple[list[Continuation | None], list[int], list[Block], Mapping[str, Adapters]]:
    """Moves the unfinished rows together, adapter by adapter: rows, where each was, their blocks and adapters.

    Adapters with like numbers of rows share a block; a missing row is filled up with a copy that nobody reads.
    """
    alive = [(n, row) for n, row in enumerate(physical) if row is not None and not row.finish]
    own: dict[int, list[tuple[int, Continuation]]] = {}
    for n, row in alive:
        own.setdefault(row.adapter if row.adapter in bank.weights else -1, []).append((n, row))
    plain = own.pop(-1, [])
    owners = sorted(own, key=lambda i: (-len(own[i]), i))
    rows: list[Continuation | None] = []
    index: list[int] = []
    blocks: list[Block] = []
    for start, stop in cut([len(own[i]) for i in owners]):
        length = len(own[owners[start]])
        blocks.append(Block(len(rows), length, stop - start, start, stop))
        for i in owners[start:stop]:
            missing = length - len(own[i])
            rows += [row for _, row in own[i]] + [None] * missing
            index += [n for n, _ in own[i]] + [own[i][0][0]] * missing
    if plain:
        blocks.append(Block(len(rows), 1, len(plain)))
        rows += [row for _, row in plain]
        index += [n for n, _ in plain]
    return rows, index, blocks, bank.adapters(owners)


def draws(seed: int, prompt: int, sample: int, sampling: Sampling) -> list[float]:
    """The uniform numbers by which one answer's tokens are drawn."""
    if sampling.temperature == 0:
        return []
    generator = torch.Generator().manual_seed(derive_seed(sampling.seed, seed, prompt, sample))
    return torch.rand(sampling.max_tokens, generator=generator, dtype=torch.float64).tolist()


def _likeliest(logprobs: Tensor, top_p: float) -> Tensor:
    """The distribution of each row over its likeliest tokens: the fewest that together have a share of `top_p`."""
    if top_p >= 1:
        return logprobs
    ordered, tokens = logprobs.sort(-1, descending=True)
    shares = ordered.exp()
    outside = shares.cumsum(-1) - shares >= top_p
    return logprobs.masked_fill(torch.empty_like(outside).scatter_(-1, tokens, outside), float("-inf")).log_softmax(-1)


def _choose(physical: list[Continuation | None], logits: Tensor, sampling: Sampling) -> None:
    """The next token of every unfinished row: the likeliest, or by the row's own uniform number."""
    logits = logits.float()
    if sampling.temperature:
        logprobs = _likeliest((logits / sampling.temperature).log_softmax(-1), sampling.top_p)
        draws = [row.draws[len(row.ids)] if row is not None and not row.finish else 0.0 for row in physical]
        below = torch.tensor(draws, dtype=torch.float64, device=logits.device)
        total = logprobs.double().exp().cumsum(-1)
        tokens = torch.searchsorted(total, (below * total[:, -1])[:, None], right=True).squeeze(1)
        tokens = tokens.clamp(max=logits.shape[-1] - 1)
        picked = logprobs.gather(1, tokens[:, None]).squeeze(1)
    else:
        tokens = logits.argmax(-1)
        picked = log_probabilities(logits, tokens)
    for row, token, logprob in zip(physical, tokens.tolist(), picked.tolist(), strict=True):
        if row is not None and not row.finish:
            row.take(token, logprob, sampling)
