"""What an adapter that is trained on keeps of what it was: one class for each method, each saying what it assumes.

A keeper sees its own adapter's matrices only, before and after every optimiser step, and what it remembers goes into
the adapter's files. So any number of adapters with keepers of their own are trained in one bank.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seal_ray.inner.continued import Former
from seal_ray.inner.frozen import Frozen
from seal_ray.inner.layer_statistics import LayerStatistics
from seal_ray.inner.recipe import MAX_RANK, check_recipe
from seal_ray.records import Keeping, Recipe, StudyCourse

# takes the examples through the model with the finished adapter on, and says what every layer was given
Observe = Callable[[bool], Mapping[str, LayerStatistics]]


@dataclass(frozen=True)
class Matrices:
    """Views of one adapter's matrices (or their gradients) in a bank's row, by layer: A [rank, in], B [out, rank]."""

    a: Mapping[str, Tensor]
    b: Mapping[str, Tensor]


class KeepFailed(ValueError):
    """What a method has to remember can't be: it is told as the adapter's failure."""


class Keeper:
    """`none`: trains on from the weights that are there, and holds on to nothing. The arm to compare with."""

    adds = False  # whether every step gets ranks of its own beside those that are there

    def __init__(self, keeping: Keeping, former: Former, rank: int, scale: float) -> None:
        """`rank`, `scale`: of the whole adapter in this step."""
        self.keeping, self.former, self.rank, self.scale = keeping, former, rank, scale
        self.memory: dict[str, Tensor] = dict(former.memory)

    def begin(self, weights: Matrices) -> None:
        """The first weights of the step: those of a new adapter are there, and make room for those it had."""
        old = self.former.rank
        for name, (a, b) in self.former.pairs.items():
            if self.adds:
                weights.a[name][old:] = weights.a[name][: self.rank - old].clone()
            weights.a[name][:old] = a
            weights.b[name][:, :old] = b

    def graded(self, weights: Matrices, gradients: Matrices) -> None:
        """Before an optimiser step."""

    def moved(self, weights: Matrices) -> None:
        """After an optimiser step."""

    def end(self, weights: Matrices) -> None:
        """After the last one."""

    def remember(self, weights: Matrices, observe: Observe) -> None:
        """For the next step of the stream."""


class Fresh(Keeper):
    """`fresh`: what was learned is merged and stays, and a new adapter is put on top, as the paper does.

    Assumes that a small change of the merged weights does not disturb what they answer; nothing sees to that.
    Where the adapters together are over `most_rank`, the earlier ones are joined to the nearest of a smaller rank.
    """

    adds = True

    def graded(self, weights: Matrices, gradients: Matrices) -> None:
        old = self.former.rank
        for name in self.former.pairs:
            gradients.a[name][:old] = 0
            gradients.b[name][:, :old] = 0

    def moved(self, weights: Matrices) -> None:
        old = self.former.rank
        for name, (a, b) in self.former.pairs.items():  # weight decay moves what has no gradient
            weights.a[name][:old] = a
            weights.b[name][:, :old] = b


class NullSpace(Fresh):
    """`null_space`: a new adapter each step that does nothing to what earlier steps put into its layers.

    Assumes that the inputs of a layer on the earlier texts fill only a part of its width (so many directions as hold
    `energy` of them), and that questions about them fall into the same part. When no direction is left nothing can
    be learned. Every input counts alike, so that the few tokens with huge values do not stand for all.
    """

    def begin(self, weights: Matrices) -> None:
        super().begin(weights)
        self.moved(weights)

    def graded(self, weights: Matrices, gradients: Matrices) -> None:
        super().graded(weights, gradients)
        self._project(gradients)

    def moved(self, weights: Matrices) -> None:
        super().moved(weights)
        self._project(weights)  # Adam scales each weight by itself, which leads out of any subspace

    def _project(self, matrices: Matrices) -> None:
        for name, a in matrices.a.items():
            used = self.memory.get(f"used.{name}")
            if used is not None:
                own = a[self.former.rank :]
                own -= (own @ used) @ used.mT

    def remember(self, weights: Matrices, observe: Observe) -> None:
        for name, seen in observe(False).items():
            self.memory[f"used.{name}"] = _extended(self.memory.get(f"used.{name}"), seen.inputs, self.keeping.energy)


class Slao(Keeper):
    """`slao`: a step begins with the orthogonal part of the A before, and its B is merged with weight 1/sqrt(step).

    After "Merge before Forget" (arXiv 2512.23017). Assumes that A is a space that steps share, and B what each of them
    puts into it. What answers is the merged adapter; what the next step begins from is the one that was trained. An
    adapter that a stream begins with (a version's, which remembers nothing) counts as its first step.
    """

    def begin(self, weights: Matrices) -> None:
        super().begin(weights)
        for name in self.former.pairs:
            trained = self.memory.get(f"trained.{name}")
            if trained is not None:
                weights.b[name].copy_(trained)
            left, _, right = torch.linalg.svd(weights.a[name], full_matrices=False)
            weights.a[name].copy_(left @ right)  # the nearest orthogonal rows: B goes on meaning what it meant

    def end(self, weights: Matrices) -> None:
        step = 1 + int(self.memory.get("step", torch.tensor(1.0 if self.former.pairs else 0.0)))
        self.memory["step"] = torch.tensor(float(step))
        for name, b in weights.b.items():
            self.memory[f"trained.{name}"] = b.clone()
            if name in self.former.pairs:
                merged = self.former.pairs[name][1]
                b.copy_(merged + (b - merged) / math.sqrt(step))


class Ewc(Keeper):
    """`ewc`: elastic weight consolidation on the adapter's product, by a diagonal Fisher that is merged by task.

    Assumes that the loss on earlier texts is a bowl around the weights that the last step left, whose width each way
    the Fisher tells, and that the diagonal of each layer is a product of what is at its two ends (what goes in, and
    the gradient of what comes out, squared): then it takes no more room than a vector at each end. The Fisher is
    brought to a mean of 1 over all weights, so that `strength` means the same at any loss.
    """

    def __init__(self, keeping: Keeping, former: Former, rank: int, scale: float) -> None:
        super().__init__(keeping, former, rank, scale)
        self._fisher = {n: self._diagonal(n) for n in former.pairs if f"fisher_out.{n}" in self.memory}

    def _diagonal(self, name: str) -> tuple[Tensor, Tensor]:
        """The two ends whose product is the layer's Fisher."""
        out, into = self.memory[f"fisher_out.{name}"], self.memory[f"fisher_in.{name}"]
        return out / out.sum().clamp(min=1e-30), into

    def graded(self, weights: Matrices, gradients: Matrices) -> None:
        pull = self.keeping.strength * self.scale**2
        for name, (out, into) in self._fisher.items():
            a, b = weights.a[name], weights.b[name]
            a_was, b_was = self.former.pairs[name]
            left = torch.cat([b, -b_was], dim=1) * out[:, None]
            right = torch.cat([a, a_was]) * into
            gradients.a[name].add_((b.mT @ left) @ right, alpha=pull)
            gradients.b[name].add_(left @ (right @ a.mT), alpha=pull)

    def remember(self, weights: Matrices, observe: Observe) -> None:
        ends = {name: (seen.gradients_squared, seen.inputs_squared) for name, seen in observe(True).items()}
        for name, (out, into) in ends.items():
            if not (out.isfinite().all() and into.isfinite().all()):
                raise KeepFailed(f"the Fisher of layer {name} is not finite: the gradients on these texts overflow")
        total = sum(float(out.sum() * into.sum()) for out, into in ends.values())
        weights_in_all = sum(len(out) * len(into) for out, into in ends.values())
        if not 0 < total < math.inf:
            raise KeepFailed(f"the Fisher of these texts sums up to {total}, and nothing can be weighed by it")
        for name, (out, into) in ends.items():
            for end, own, other in (("out", out, into), ("in", into, out)):
                margin = own * (other.sum() * (weights_in_all / total))
                key = f"fisher_{end}.{name}"
                self.memory[key] = margin + self.memory[key] if key in self.memory else margin


KEEPERS: dict[str, type[Keeper]] = {
    "none": Keeper,
    "fresh": Fresh,
    "ewc": Ewc,
    "null_space": NullSpace,
    "slao": Slao,
}


def _keeper(keeping: Keeping, former: Former, rank: int, scale: float) -> Keeper:
    if keeping.method not in KEEPERS:
        raise ValueError(f"{keeping.method!r} is no method of a bank; it has {', '.join(KEEPERS)}")
    return KEEPERS[keeping.method](keeping, former, rank, scale)


def going_on_with(course: StudyCourse, recipe: Recipe | None, frozen: Frozen) -> tuple[Recipe, list[str], Keeper]:
    """The recipe of the whole adapter in this step, the layers that it is on, and its keeper."""
    if recipe is None or len(course.order) != len(course.rates) or not course.order:
        raise ValueError("an adapter that is trained on needs a recipe, and a learning rate for each of its steps")
    chosen, former = (
        check_recipe(recipe, frozen.layers, frozen.head_name),
        Former.read(course.start, frozen.layers).on(frozen.device),
    )
    kind = KEEPERS.get(course.keeping.method, Keeper)
    if former.pairs and kind.adds:
        widest = min(layer.in_features for name, layer in frozen.layers.items() if name in {*chosen, *former.pairs})
        most = min(course.keeping.most_rank, widest, MAX_RANK) - recipe.rank
        if most < 1:
            raise ValueError(f"rank {recipe.rank} leaves no room beside earlier adapters in most_rank; lower it")
        former = former.joined(most)
        rank = former.rank + recipe.rank
    else:
        rank = former.rank or recipe.rank
    scale = former.scale if former.pairs else recipe.alpha / recipe.rank
    layers = [n for n in frozen.layers if n in former.pairs or (n in chosen and (kind.adds or not former.pairs))]
    keeper = _keeper(course.keeping, former, rank, scale)
    return replace(recipe, rank=rank, alpha=scale * rank), layers, keeper


def _extended(used: Tensor | None, inputs: Tensor, energy: float) -> Tensor:
    """The directions `[width, count]` that were in use, and as many more as hold `energy` of the inputs with them."""
    rows = torch.nn.functional.normalize(inputs.float(), dim=1)
    total = rows.square().sum()
    if used is not None:
        rows = rows - (rows @ used) @ used.mT
    have = 1 - rows.square().sum() / total
    few = len(rows) < rows.shape[1]  # whichever of the two products is the smaller one has the same values
    values, vectors = torch.linalg.eigh(rows @ rows.mT if few else rows.mT @ rows)
    held = have + values.flip(0).clamp(min=0).cumsum(0) / total
    count = min(int((held < energy).sum()) + 1, len(values)) if have < energy else 0
    leading = vectors.flip(1)[:, :count]
    more = rows.mT @ leading if few else leading
    basis = more if used is None else torch.cat([used, more], dim=1)
    return torch.linalg.qr(basis[:, : basis.shape[0]])[0] if basis.shape[1] else basis


def own_matrices(stack: Any, row: Tensor, layers: Sequence[str], rank: int) -> Matrices:
    """An adapter's own part of a bank's row, as views."""
    rows = row[None]
    return Matrices({n: stack.a(rows, n)[0, :rank] for n in layers}, {n: stack.b(rows, n)[0, :, :rank] for n in layers})
