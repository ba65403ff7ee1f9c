"""Where the tokens of many adapters' texts lie in one packed row, so that no text sees another and little is padding.

Adapters stand at *positions*. A block holds one text of each position in a range, padded at its end to a common
length: its rows are a plain `[adapters, length, width]` view for the adapters' products and for attention, while the
frozen base sees all rows of all blocks as one. Padding comes after a text, so under causal attention no real token
ever sees it, and its gradient is zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

BLOCK_COST = 32  # rows that one more block is worth: a block costs a few small products in every layer


@dataclass(frozen=True)
class Text:
    """Token ids on their way through the model. `key` is the caller's own name for it.

    A text may fork: the last tokens are branches of these lengths, each of which goes on from the tokens before all
    of them and sees no other branch.
    """

    key: int
    ids: Sequence[int]
    branches: tuple[int, ...] = ()

    @property
    def trunk(self) -> int:
        """Tokens before the branches."""
        return len(self.ids) - sum(self.branches)

    def positions(self) -> list[int]:
        trunk = self.trunk
        return [*range(trunk), *(trunk + p for length in self.branches for p in range(length))]

    def segments(self) -> list[int]:
        """Of each token: 0 in the trunk, else the number of its branch, from 1 on."""
        return [0] * self.trunk + [n for n, length in enumerate(self.branches, 1) for _ in range(length)]


@dataclass(frozen=True)
class Block:
    """Texts of positions `first` to `last`, `length` rows each, from row `row` on."""

    row: int
    length: int
    texts: int
    first: int = 0
    last: int = 0  # equal to `first`: these texts have no adapter
    fresh: bool = True  # the first block of its positions in an optimiser step: gradients are written, not added

    @property
    def stop(self) -> int:
        return self.row + self.texts * self.length


@dataclass
class Layout:
    """One packed row: blocks, and for each text (in order of its rows) where it begins."""

    blocks: list[Block] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    rows: int = 0

    def place(self, texts: Sequence[Text], first: int, *, adapted: bool = True, fresh: bool = True) -> None:
        """Adds a block with one text for each position from `first` on."""
        length = max(len(t.ids) for t in texts)
        last = first + len(texts) if adapted else first
        self.blocks.append(Block(self.rows, length, len(texts), first, last, fresh))
        for text in texts:
            self.texts.append(text)
            self.starts.append(self.rows)
            self.rows += length

    def token_ids(self) -> list[int]:
        ids = [0] * self.rows
        for text, start in zip(self.texts, self.starts, strict=True):
            ids[start : start + len(text.ids)] = text.ids
        return ids

    def positions(self) -> list[int]:
        positions = [p for block in self.blocks for _ in range(block.texts) for p in range(block.length)]
        for text, start in zip(self.texts, self.starts, strict=True):
            if text.branches:
                positions[start : start + len(text.ids)] = text.positions()
        return positions

    def segments(self) -> list[int] | None:
        """Of each row: the branch it belongs to, 0 where none; None where no text forks."""
        if not any(text.branches for text in self.texts):
            return None
        segments = [0] * self.rows
        for text, start in zip(self.texts, self.starts, strict=True):
            segments[start : start + len(text.ids)] = text.segments()
        return segments


def cut(lengths: Sequence[int], cost: int = BLOCK_COST) -> list[tuple[int, int]]:
    """The ranges into which to cut a series of lengths so that padding plus the cost of more ranges is least."""
    n = len(lengths)
    best, begin = [0.0] * (n + 1), [0] * (n + 1)
    for stop in range(1, n + 1):
        longest, best[stop] = 0, float("inf")
        for start in range(stop - 1, -1, -1):
            longest = max(longest, lengths[start])
            total = best[start] + longest * (stop - start) + cost
            if total < best[stop]:
                best[stop], begin[stop] = total, start
    ranges = []
    while n:
        ranges.append((begin[n], n))
        n = begin[n]
    return ranges[::-1]


def order(texts: Sequence[Sequence[Text]]) -> list[int]:
    """In which order the adapters should stand: most texts first, and among equals the longest first."""
    return sorted(range(len(texts)), key=lambda i: (-len(texts[i]), -max(map(_length, texts[i]), default=0), i))


def pack(
    texts: Sequence[Sequence[Text]], plain: Sequence[Text] = (), *, limit: int, cost: int = BLOCK_COST
) -> list[Layout]:
    """Layouts of about `limit` rows at most for the texts of each position, and for those without an adapter.

    A block more is worth `cost` rows of padding less.

    `texts` must be in the order of `order`, so that the positions that have a further text are always the first ones.
    """
    layouts: list[Layout] = []
    levels = [sorted(own, key=_length, reverse=True) for own in texts]
    touched = 0  # positions below this have been in a block already
    room = 0

    def at(rows: int) -> Layout:
        nonlocal room
        if not layouts or rows > room:
            layouts.append(Layout())
            room = limit
        room -= rows
        return layouts[-1]

    for level in range(max(map(len, levels), default=0)):
        row = [own[level] for own in levels if len(own) > level]
        for start, stop in cut([_length(t) for t in row], cost):
            length = max(map(_length, row[start:stop]))
            step = max(1, limit // length)
            for s in range(start, stop, step):
                piece = row[s : min(s + step, stop)]
                at(length * len(piece)).place(piece, s, fresh=s >= touched)
        touched = max(touched, len(row))
    rest = sorted(plain, key=_length, reverse=True)
    for start, stop in cut([_length(t) for t in rest], cost):
        length = _length(rest[start])
        step = max(1, limit // length)
        for s in range(start, stop, step):
            piece = rest[s : min(s + step, stop)]
            at(length * len(piece)).place(piece, 0, adapted=False)
    return layouts


def pack_ragged(texts: Sequence[Sequence[Text]], *, limit: int) -> list[Layout]:
    """Layouts without padding, of about `limit` rows at most: each position's texts together, in order of position."""
    layouts: list[Layout] = []
    for position, own in enumerate(texts):
        for text in own:
            if not layouts or layouts[-1].rows + _length(text) > limit:
                layouts.append(Layout())
            layouts[-1].place([text], position)
    return layouts


def _length(text: Text) -> int:
    return len(text.ids)
