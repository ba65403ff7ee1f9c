"""How texts are laid into packed rows: every text once, little padding, positions that fit the adapters' order."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from seal_ray.inner.layout import Text, cut, order, pack


def lay(lengths: list[list[int]], plain: list[int], limit: int):
    key = itertools.count()
    own = [[Text(next(key), [7] * n) for n in row] for row in lengths]
    standing = order(own)
    rest = [Text(next(key), [9] * n) for n in plain]
    return [own[i] for i in standing], rest, pack([own[i] for i in standing], rest, limit=limit)


@given(
    st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=4), max_size=9),
    st.lists(st.integers(1, 60), max_size=4),
    st.integers(30, 400),
)
def test_every_text_lies_once_in_a_block_of_its_own_position(lengths, plain, limit):
    own, rest, layouts = lay(lengths, plain, limit)
    seen = []
    fresh: dict[int, int] = {}
    for layout in layouts:
        ids, positions = layout.token_ids(), layout.positions()
        assert len(ids) == len(positions) == layout.rows == layout.blocks[-1].stop
        at = iter(zip(layout.texts, layout.starts, strict=True))
        row = 0
        for block in layout.blocks:
            assert block.row == row
            for n in range(block.texts):
                text, start = next(at)
                assert start == block.row + n * block.length and len(text.ids) <= block.length
                assert ids[start : start + len(text.ids)] == list(text.ids)
                assert positions[start : start + block.length] == list(range(block.length))
                seen.append(text.key)
                if block.last > block.first:
                    position = block.first + n
                    assert any(t.key == text.key for t in own[position])
                    # an adapter's gradient is written once before it is added to
                    assert block.fresh == (position not in fresh)
                    fresh[position] = text.key
                else:
                    assert any(t.key == text.key for t in rest)
            row = block.stop
        assert layout.rows <= limit or len(layout.texts) == 1
    assert sorted(seen) == sorted(t.key for row in [*own, rest] for t in row)


@given(st.lists(st.integers(1, 90), max_size=9), st.integers(0, 60))
def test_a_cut_is_the_cheapest_there_is(lengths, cost):
    def price(ranges):
        return sum(max(lengths[a:b]) * (b - a) + cost for a, b in ranges)

    found = cut(lengths, cost)
    assert [n for a, b in found for n in range(a, b)] == list(range(len(lengths)))
    if lengths:
        inner = range(1, len(lengths))
        every = (
            list(itertools.pairwise([0, *marks, len(lengths)]))
            for size in range(len(lengths))
            for marks in itertools.combinations(inner, size)
        )
        assert price(found) == min(map(price, every))


def test_real_lengths_need_little_padding():
    lengths = [[n] for n in (15, 19, 23, 26, 28, 30, 33, 35, 38, 40, 51, 121, 199, 27, 31, 24)]
    (layout,) = lay(lengths, [], 16384)[2]
    assert layout.rows < 1.15 * sum(n for (n,) in lengths)
    assert len(layout.blocks) <= 5
