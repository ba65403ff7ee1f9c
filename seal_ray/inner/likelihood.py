"""How likely given answers are: each prompt goes through the model once, with all of its targets as branches of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from seal_ray.inner.answer import Ids, by_owner
from seal_ray.inner.head import chunks, token_log_probabilities
from seal_ray.inner.layout import Layout, Text, pack
from seal_ray.inner.products import Adapters

if TYPE_CHECKING:
    from seal_ray.inner.bank import Bank

TREE = 512  # tokens of a prompt and its branches: attention over them is quadratic, so more targets begin another

Pairs = Sequence[Sequence[tuple[Ids, Ids]]]


@dataclass
class Tree:
    """A prompt of an adapter and targets that may follow it. A target's last token is predicted and never read."""

    adapter: int
    prompt: tuple[int, ...]
    targets: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return len(self.prompt) + sum(len(t) - 1 for t in self.targets)

    def text(self, key: int) -> Text:
        branches = [t[:-1] for t in self.targets]
        ids = [*self.prompt, *(token for branch in branches for token in branch)]
        return Text(key, ids, tuple(len(b) for b in branches if b))

    def rows(self) -> list[list[int]]:
        """For each target the rows, counted from the prompt's first, that predict its tokens."""
        out, at = [], len(self.prompt)
        for target in self.targets:
            out.append([len(self.prompt) - 1, *range(at, at + len(target) - 1)])
            at += len(target) - 1
        return out


@torch.no_grad()
def likelihood(bank: "Bank", pairs: Pairs) -> list[list[tuple[float, int]]]:
    """The log-probability of every target after its prompt, and how many tokens it has."""
    trees, places = _trees(bank, pairs)
    scores: list[list[float]] = [[] for _ in trees]
    asked = sorted({tree.adapter for tree in trees})
    with bank.attached():
        for start in range(0, len(asked), bank.together):
            some = set(asked[start : start + bank.together])
            texts = [(tree.adapter, tree.text(n)) for n, tree in enumerate(trees) if tree.adapter in some]
            by_position, owners, plain = by_owner(bank, texts)
            adapters = bank.adapters(owners)
            for layout in pack(by_position, plain, limit=bank.tokens_limit, cost=bank.frozen.block_cost):
                _score(bank, layout, adapters, trees, scores)
    return [[(scores[tree][branch], len(own[j][1])) for j, (tree, branch) in enumerate(at)]
            for own, at in zip(pairs, places, strict=True)]  # fmt: skip


def _trees(bank: "Bank", pairs: Pairs) -> tuple[list[Tree], list[list[tuple[int, int]]]]:
    """The trees of all pairs; and of each pair which tree it is in, as which target."""
    context = bank.frozen.context
    trees: list[Tree] = []
    places: list[list[tuple[int, int]]] = []
    for i, own in enumerate(pairs):
        growing: dict[tuple[int, ...], int] = {}  # prompt -> its newest tree
        placed: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[int, int]] = {}
        places.append([])
        for j, (prompt, target) in enumerate((tuple(p), tuple(t)) for p, t in own):
            if not prompt or not target:
                raise ValueError(f"pair {j} of adapter {i} has an empty prompt or target; there is nothing to predict")
            if len(prompt) + len(target) > context:
                raise ValueError(
                    f"pair {j} of adapter {i} has {len(prompt) + len(target)} tokens; the model's context is {context}"
                )
            if (prompt, target) not in placed:
                at = growing.get(prompt)
                if at is None or trees[at].tokens + len(target) > min(TREE, context):
                    growing[prompt] = at = len(trees)
                    trees.append(Tree(i, prompt))
                trees[at].targets.append(target)
                placed[prompt, target] = (at, len(trees[at].targets) - 1)
            places[-1].append(placed[prompt, target])
    return trees, places


def _score(
    bank: "Bank", layout: Layout, adapters: Mapping[str, Adapters], trees: list[Tree], scores: list[list[float]]
) -> None:
    """Writes the log-probabilities of the targets of all trees in a layout."""
    predicting: dict[int, int] = {}  # row -> which of the chosen rows it is
    sources: list[int] = []
    tokens: list[int] = []
    for text, start in zip(layout.texts, layout.starts, strict=True):
        tree = trees[text.key]
        for target, rows in zip(tree.targets, tree.rows(), strict=True):
            sources += [predicting.setdefault(start + row, len(predicting)) for row in rows]
            tokens += target
    frozen = bank.frozen
    hidden = frozen.packed(layout, adapters)
    adapted = frozen.head_name in bank.stack.widths
    states = (frozen.head(hidden) if adapted else hidden)[torch.tensor(list(predicting), device=frozen.device)]
    source, token = torch.tensor([sources, tokens], device=frozen.device)
    token_scores = torch.empty(len(tokens), device=frozen.device)
    for at in chunks(len(states), frozen.vocabulary, frozen.device):
        logits = states[at] if adapted else frozen.head(states[at])
        here = ((source >= at.start) & (source < at.stop)).nonzero().squeeze(1)
        token_scores[here] = token_log_probabilities(logits, source[here] - at.start, token[here])
    values = iter(token_scores.double().tolist())
    for text in layout.texts:
        scores[text.key] = [sum(next(values) for _ in target) for target in trees[text.key].targets]
