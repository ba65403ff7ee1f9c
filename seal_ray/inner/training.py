"""Training in slots: one step of every adapter in a slot, all in one forward and backward of the base.

When an adapter ends (trained, failed or dropped) the next one takes its slot, with its own seed, step count and
schedule. What an adapter comes to does not depend on who is in the other slots.
"""

import gc
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from seal_ray.inner.adam import Adam
from seal_ray.inner.bank import Bank
from seal_ray.inner.capacity import out_of_memory
from seal_ray.inner.distill import TopTokens, top_kl
from seal_ray.inner.dropout import Dropout, text_key
from seal_ray.inner.frozen import Frozen, RaggedTexts
from seal_ray.inner.head import loss_and_gradient
from seal_ray.inner.keep import Keeper, Matrices, own_matrices
from seal_ray.inner.layout import Layout, Text, order, pack, pack_ragged
from seal_ray.inner.products import Adapters, RaggedRows, ragged_suits
from seal_ray.inner.recipe import learning_rate
from seal_ray.inner.staging import staged
from seal_ray.inner.teacher import Reading, expectations
from seal_ray.inner.training_text import TrainingText
from seal_ray.inner.writing import Speaker, written
from seal_ray.records import Example, Failure, Recipe

LOOK_EVERY = 16  # steps between looks at what an accelerator has computed; a look waits for it


@dataclass(frozen=True)
class Course:
    """What one adapter is taken through."""

    number: int  # as the caller counts
    recipe: Recipe
    texts: Sequence[TrainingText]
    steps: list[list[int]]  # the texts of each optimiser step
    asked: Mapping[int, Example] = field(default_factory=dict)  # texts whose answers are written while training
    rates: tuple[float, ...] = ()  # of each step; none: as the recipe says
    keeper: Keeper | None = None  # of an adapter that is trained on

    @property
    def tokens(self) -> int:
        return sum(len(self.texts[t].ids) for step in self.steps for t in step)


@dataclass
class Occupant:
    """A course in a slot, and how many of its steps are done."""

    course: Course
    done: int = 0
    answered: dict[int, TrainingText] = field(default_factory=dict)  # with its own answers of this epoch

    def texts(self, seed: int) -> list[TrainingText]:
        """Those of its next step. `seed`: of its training."""
        numbers, rate = self.course.steps[self.done], self.course.recipe.dropout
        texts = [self.answered.get(t) or self.course.texts[t] for t in numbers]
        if not rate:
            return texts
        keys = [text_key(seed, self.done, t) for t in numbers]
        return [replace(text, dropout=rate, key=key) for text, key in zip(texts, keys, strict=True)]

    @property
    def epoch(self) -> int:
        return self.done * self.course.recipe.epochs // len(self.course.steps)

    @property
    def writes(self) -> bool:
        """Whether answers of its own are wanted now: it stands before an epoch."""
        return bool(self.course.asked) and self.done % (len(self.course.steps) // self.course.recipe.epochs) == 0

    @property
    def rate(self) -> float:
        if self.course.rates:
            return self.course.rates[self.done]
        return learning_rate(self.course.recipe, self.done, len(self.course.steps))


@dataclass(frozen=True)
class StepResult:
    """What a step's losses and gradient norms will say once the device has computed them."""

    steps: list[tuple[int, int]]  # number of the adapter, its own step from 0
    places: Sequence[int]  # of their losses
    losses: Tensor
    norms: Tensor


class SlotTraining:
    """The slots of one `fit`. Fills the bank with losses, failures and trained weights."""

    def __init__(
        self, bank: Bank, courses: Sequence[Course], slots: int, dropped: Callable[[int], bool] | None = None
    ) -> None:
        self.bank, self.dropped = bank, dropped
        # the longest first, so that the slots end close to each other
        self.waiting = deque(sorted(courses, key=lambda c: (-len(c.steps), -c.tokens, c.number)))
        self.running: dict[int, Occupant] = {}  # by slot
        self.told: list[StepResult] = []
        self.limit = bank.tokens_limit
        self.iterations = self.occupied = 0
        self.ragged, self.gradient_type = is_ragged(bank), gradient_type(bank, courses)
        self.moments = courses[0].recipe.moments  # all have the same
        self.slots = min(slots, len(courses))
        while True:
            try:
                self._take_memory()
                return
            except (MemoryError, RuntimeError) as error:
                if self.slots == 1 or not out_of_memory(error):
                    raise
            self.slots = (self.slots + 1) // 2

    def _take_memory(self) -> None:
        stack, frozen, shape = self.bank.stack, self.bank.frozen, (self.slots, self.bank.stack.size)
        self.master = torch.zeros(*shape, device=frozen.device)
        # zeros, for layers that no forward comes by: some models' last blocks have keys and values of earlier ones
        self.grads = torch.zeros(shape, device=frozen.device, dtype=self.gradient_type)
        copy = torch.empty(shape, device=frozen.device, dtype=frozen.dtype) if self.ragged else None
        by_kernel = self.ragged and frozen.kernels
        self.adam = Adam(self.master, stack, copy, moments=self.moments, by_kernel=by_kernel)
        self.adapters = stack.views(copy, self.grads) if copy is not None else {}

    def run(self) -> None:
        while self._refill():
            self._write()
            if self.running:
                self._step()
            if self.bank.frozen.device.type == "cpu" or len(self.told) == LOOK_EVERY:
                self._look()
        self._look()
        self.bank.slots = max(self.bank.slots, self.slots)
        self.bank.steps = sum(map(len, self.bank.losses))
        self.bank.turns += self.slots * self.iterations
        self.bank.turns_taken += self.occupied

    def _refill(self) -> bool:
        """Takes out who should not go on and puts in who waits; says whether anybody is to be trained."""
        if self.dropped is not None:
            for slot, running in list(self.running.items()):
                if self.dropped(running.course.number):
                    del self.running[slot]
                    self._drop(running.course, running.done)
        for slot in range(self.slots):
            while slot not in self.running and self.waiting:
                course = self.waiting.popleft()
                if self.dropped is not None and self.dropped(course.number):
                    self._drop(course, 0)
                    continue
                self.master[slot].zero_()
                number = course.number
                self.bank.stack.start(
                    self.master[slot], self.bank.wanted[number], course.recipe.rank, self.bank.seeds[number]
                )
                if course.keeper:
                    course.keeper.begin(self._own(course, self.master[slot]))
                self.adam.begin(slot, course.recipe)
                self.running[slot] = Occupant(course)
        return bool(self.running)

    def _drop(self, course: Course, done: int) -> None:
        message = f"dropped after {done} of {len(course.steps)} optimiser steps"
        self.bank.failures[course.number] = self.bank.failures[course.number] or Failure("dropped", message)

    def _write(self) -> None:
        """Answers of those that are taught at their own and stand before an epoch, and the teacher's word on them."""
        bank = self.bank
        slots = [s for s, running in self.running.items() if running.writes]
        if not slots:
            return
        numbers = [self.running[s].course.number for s in slots]
        asked = [self.running[s].course.asked for s in slots]
        answers = written(bank, [
            Speaker(self.running[s].course.recipe, bank.wanted[n], self.master[s].to(bank.frozen.dtype),
                   bank.seeds[n], self.running[s].epoch, list(own.values()))
            for s, n, own in zip(slots, numbers, asked, strict=True)
        ])  # fmt: skip
        readings = []
        for slot, number, own, samples in zip(slots, numbers, asked, answers, strict=True):
            if any(sample.finish == "nan" for sample in samples):
                bank.failures[number] = Failure("nan_answer", "an answer that it wrote while training has no numbers")
                del self.running[slot]
                continue
            degrees = self.running[slot].course.recipe.distill_temperature
            readings += [(slot, t, s.ids, Reading.before(e.teacher, s.ids, degrees))
                         for (t, e), s in zip(own.items(), samples, strict=True)]  # fmt: skip
        teachers = expectations(bank.frozen, [reading for *_, reading in readings], self.limit)
        for (slot, t, ids, reading), teacher in zip(readings, teachers, strict=True):
            running = self.running[slot]
            prompt = running.course.asked[t].ids[: running.course.asked[t].first]
            labelled = range(len(prompt), len(prompt) + len(ids))
            running.answered[t] = TrainingText((*prompt, *ids), labelled, teacher)
            bank.written[running.course.number] += len(ids)
            bank.taught[running.course.number] += len(reading.ids)

    def _step(self) -> None:
        """One optimiser step of everybody in a slot."""
        stack, frozen = self.bank.stack, self.bank.frozen
        of_step = {s: r.texts(self.bank.seeds[r.course.number]) for s, r in self.running.items()}
        if self.ragged:  # rows in any order, and none for an empty slot
            slots = places = sorted(of_step)
            adapters, texts = self.adapters, [of_step.get(slot, []) for slot in range(self.slots)]
        else:  # blocks want like lengths beside each other
            standing = list(of_step)
            slots = [standing[i] for i in order([[Text(n, t.ids) for n, t in enumerate(of_step[s])] for s in standing])]
            places, texts = list(range(len(slots))), [of_step[s] for s in slots]
            _, scale = self._scaled(slots)
            adapters = stack.trained(self.master, slots, scale, frozen.dtype, self.grads)
        losses = self._within_memory(adapters, texts)
        batch = [self.running[s] for s in slots]
        kept = [(r.course, r.course.keeper, s, p) for r, s, p in zip(batch, slots, places, strict=True)
                if r.course.keeper]  # fmt: skip
        if kept:
            at, scale = self._scaled(slots, places)
            self.grads[at, stack.split :] *= scale[:, None]
        for course, keeper, slot, place in kept:
            keeper.graded(self._own(course, self.master[slot]), self._own(course, self.grads[place]))
        norms = self.adam.step(slots, places, self.grads, [r.rate for r in batch], unscaled=bool(kept))
        for course, keeper, slot, _ in kept:
            keeper.moved(self._own(course, self.master[slot]))
            self.adam.refresh(slot)
        self.told.append(StepResult([(r.course.number, r.done) for r in batch], places, losses, norms))
        self.iterations += 1
        self.occupied += len(batch)
        for slot, running in zip(slots, batch, strict=True):
            running.done += 1
            if running.done == len(running.course.steps):
                if running.course.keeper:
                    running.course.keeper.end(self._own(running.course, self.master[slot]))
                    self.bank.masters[running.course.number] = self.master[slot].to("cpu", copy=True)
                self.bank.weights[running.course.number] = self._taken_out(slot)
                del self.running[slot]

    def _scaled(self, slots: Sequence[int], places: Sequence[int] | None = None) -> list[Tensor]:
        """On the device: slots (or the places that they have), and what their B are multiplied by."""
        scales = [self.bank.scale(self.running[slot].course.number) for slot in slots]
        return staged(self.bank.frozen.device, [slots if places is None else places], [scales])

    def _own(self, course: Course, row: Tensor) -> Matrices:
        return own_matrices(self.bank.stack, row, self.bank.wanted[course.number], course.recipe.rank)

    def _taken_out(self, slot: int) -> Tensor:
        """The weights of an adapter that is trained, in main memory: the slot is somebody else's from now on."""
        weights = self.master[slot].to(self.bank.frozen.dtype, copy=True)
        if weights.device.type != "cuda":
            return weights
        # nobody waits for this copy here; it is complete once the last losses have been looked at
        return torch.empty_like(weights, device="cpu", pin_memory=True).copy_(weights, non_blocking=True)

    def _within_memory(self, adapters: Mapping[str, Adapters], batch: list[list[TrainingText]]) -> Tensor:
        """The gradients of a step. Where memory does not hold them: in smaller forwards, at last with checkpointing.

        No weight has moved yet when memory runs out here, so the step is simply taken again and nobody loses anything.
        """
        frozen = self.bank.frozen
        lengths = [len(text.ids) for texts in batch for text in texts]
        while True:
            try:
                return gradients(frozen, adapters, batch, self.limit, self.grads if self.ragged else None)
            except (MemoryError, RuntimeError) as error:
                smaller = max(max(lengths), min(self.limit, sum(lengths)) // 2)
                if not out_of_memory(error) or (frozen.checkpointing and smaller >= self.limit):
                    raise
            gc.collect()
            if frozen.device.type == "cuda":
                torch.cuda.empty_cache()
            if smaller < self.limit:
                self.limit = smaller
            else:
                frozen.checkpointing = True

    def _look(self) -> None:
        """Writes down the losses that were told and takes out the adapters in which one was not finite."""
        bank = self.bank
        for told in self.told:
            losses = told.losses.tolist()
            for (number, step), place, norm in zip(told.steps, told.places, told.norms.tolist(), strict=True):
                loss = losses[place]
                failure = bank.failures[number]
                if failure is not None and failure.kind == "nan_loss":
                    continue
                if math.isfinite(loss) and math.isfinite(norm):
                    bank.losses[number].append(loss)
                    continue
                what = f"loss {loss}" if not math.isfinite(loss) else f"gradient norm {norm}"
                bank.failures[number] = Failure("nan_loss", f"{what} at optimiser step {step + 1}")
                bank.weights.pop(number, None)
                self.running = {s: r for s, r in self.running.items() if r.course.number != number}
        self.told = []


def is_ragged(bank: Bank) -> bool:
    """Whether this bank's rows are computed without padding."""
    widths = [width for pair in bank.stack.widths.values() for width in pair]
    return ragged_suits(bank.frozen.device, bank.frozen.dtype, bank.stack.rank, widths)


def gradient_type(bank: Bank, courses: Sequence[Course]) -> torch.dtype:
    """The type of adapters' gradients. A method that looks at them is handed all of their digits."""
    return torch.float32 if not is_ragged(bank) or any(c.keeper for c in courses) else bank.frozen.dtype


def gradients(
    frozen: Frozen, adapters: Mapping[str, Adapters], batch: list[list[TrainingText]], limit: int, ragged: Tensor | None
) -> Tensor:
    """The gradient of every position's mean loss, written to the adapters'; returns these losses.

    `ragged`: for rows that are not padded, all of the adapters' gradients.
    """
    counts = [sum(len(text.labelled) for text in texts) for texts in batch]
    keys = [(position, text) for position, texts in enumerate(batch) for text in texts]
    key = iter(range(len(keys)))
    texts = [[Text(next(key), text.ids) for text in own] for own in batch]
    losses = torch.zeros(len(batch), device=frozen.device)
    if ragged is None:
        layouts = pack(texts, limit=limit, cost=frozen.block_cost)
    else:
        layouts = pack_ragged(texts, limit=limit)
        if len(layouts) > 1:  # a position may have rows in several of them
            ragged.zero_()
    for layout in layouts:
        integers, shares, teacher = _numbers(layout, keys, counts)
        if ragged is not None:
            integers += _bounds(layout)
        at, wanted, owner, ids, places, *more, weight = staged(frozen.device, integers, [shares])
        ragged_texts = _ragged_texts(layout, *more, fresh=len(layouts) == 1) if more else None
        dropout = _dropout(layout, keys, frozen.device)
        hidden = frozen.hidden(ids, places, layout.blocks, adapters, ragged=ragged_texts, dropout=dropout)
        if frozen.head_name in adapters:  # a head with adapters of its own needs every row of the blocks
            token_losses = _token_losses(frozen.head(hidden)[at].float(), wanted, teacher)
            (token_losses * weight).sum().backward()
            token_losses = token_losses.detach()
        else:
            token_losses, gradient = loss_and_gradient(frozen.head, hidden.detach()[at], wanted, teacher, weight)
            hidden.backward(torch.zeros_like(hidden).index_copy_(0, at, gradient))
        losses.index_add_(0, owner, token_losses * weight)
    frozen.release()  # or its copy of the adapters would be there when the next step makes one
    return losses


def _token_losses(logits: Tensor, wanted: Tensor, teacher: TopTokens | None) -> Tensor:
    token_losses = F.cross_entropy(logits[: len(wanted)], wanted, reduction="none")
    return token_losses if teacher is None else torch.cat([token_losses, top_kl(logits[len(wanted) :], teacher)])


def _dropout(layout: Layout, keys: list[tuple[int, TrainingText]], device: torch.device) -> Dropout | None:
    """None where nobody leaves anything out."""
    own = [(start, keys[text.key][1]) for text, start in zip(layout.texts, layout.starts, strict=True)]
    dropped = [(start, len(text.ids), text.key, text.dropout) for start, text in own if text.dropout]
    return Dropout.of(layout.rows, dropped, device) if dropped else None


def _bounds(layout: Layout) -> list[list[int]]:
    """Of an unpadded layout: where its texts begin and end, and where each position's rows end."""
    stops = {block.first: block.stop for block in layout.blocks}
    stop, ends = 0, []
    for position in range(layout.blocks[0].first, layout.blocks[-1].last):
        stop = stops.get(position, stop)  # a position without rows ends where the one before it does
        ends.append(stop)
    return [[*layout.starts, layout.rows], ends]


def _ragged_texts(layout: Layout, bounds: Tensor, ends: Tensor, fresh: bool) -> RaggedTexts:
    first, last = layout.blocks[0].first, layout.blocks[-1].last
    return RaggedTexts(RaggedRows(first, last, ends.int(), fresh), bounds.int())


def _numbers(
    layout: Layout, keys: list[tuple[int, TrainingText]], counts: list[int]
) -> tuple[list[list[int]], list[float], TopTokens | None]:
    """The rows from which a labelled token is predicted, that token, its adapter's position and its share of the mean;
    besides them the ids and positions of all rows. Rows that a teacher speaks about come last, and name no token."""
    plain: list[tuple[int, int, int]] = []  # row, position, token
    taught: list[tuple[int, int]] = []
    teachers = []
    for text, start in zip(layout.texts, layout.starts, strict=True):
        position, own = keys[text.key]
        if own.teacher is None:
            plain += [(start + i - 1, position, own.ids[i]) for i in own.labelled]
        else:
            taught += [(start + i - 1, position) for i in own.labelled]
            teachers.append(own.teacher)
    both = [*(pair[:2] for pair in plain), *taught]
    rows, owners = [row for row, _ in both], [position for _, position in both]
    shares = [1 / counts[position] for position in owners]
    integers = [rows, [token for *_, token in plain], owners, layout.token_ids(), layout.positions()]
    return integers, shares, TopTokens.joined(teachers) if teachers else None
