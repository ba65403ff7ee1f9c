"""Very many of something, of documents, of texts that are alike, of words: work grows with their number, not faster."""

from collections.abc import Callable
from functools import partial
from unittest import mock

import pytest
from growth import more_than, seconds

from seal_ray.domains.documents.copies import Copies
from seal_ray.grading import overlap
from seal_ray.loops.probing import changing
from seal_ray.loops.probing.slices import rarity
from seal_ray.loops.probing.uncertainty import MappedPassage, MappedQuestion, UncertaintyMap

SMALL, TIMES = 250, 8


def letters(number: int) -> str:
    """A word for a number; no two words begin alike."""
    return "".join(chr(97 + int(digit)) for digit in f"{number * 7919 % 100_003:05d}") + "kite"


def question(number: int) -> MappedQuestion:
    said = (letters(number),)
    return MappedQuestion(f"q{number}", f"t{number}", "Who?", said, said, 1.0, 0.0, 0.0, None, 0.5, False)


def documents(count: int) -> None:
    passages = tuple(MappedPassage(f"t{n}", f"d{n}", "", 1, 0.5, 1.0) for n in range(count))
    rows = UncertaintyMap(0, tuple(map(question, range(count))), passages).documents()
    assert len(rows) == count and all(row["questions"] == 1 for row in rows)


def rare_answers(count: int) -> None:
    passages = {f"t{n}": f"{letters(n)} sells salt" for n in range(count)}
    assert set(rarity({n: letters(n) for n in range(count)}, passages).values()) == {"in one passage"}


def changed_facts(count: int) -> None:
    """Each looks at no more than so many others, however many there are."""
    golds = [f"{letters(n).capitalize()} Marsh" for n in range(count)]
    with mock.patch.object(changing, "MOST", SMALL // 5):
        for gold in golds:
            assert changing.changed(f"It was built by {gold} there.", gold, golds, 7)


def texts_of_one_kind(count: int) -> None:
    """Six words in ten are the form that all have."""
    copies = Copies(0.8)
    form = [letters(n) for n in range(60)]
    for number in range(count):
        assert not copies.add(str(number), " ".join([*form, *(letters(100 + number * 40 + n) for n in range(35))]))


def words_of_an_answer(count: int) -> None:
    gold, answer = (" ".join(letters(n) for n in range(first, first + count)) for first in (0, 50_000))
    overlap.features("Who?", gold, answer)
    overlap._gold.cache_clear()


KINDS: list[Callable[[int], None]] = [documents, rare_answers, changed_facts, texts_of_one_kind, words_of_an_answer]


@pytest.mark.parametrize("kind", KINDS)
def test_work_grows_with_their_number(kind: Callable[[int], None]) -> None:
    kind(SMALL)
    small, large = (partial(kind, count) for count in (SMALL, SMALL * TIMES))
    assert not more_than(TIMES, lambda: seconds(small), lambda: seconds(large))


def test_copies_are_found_among_many_texts_of_one_kind() -> None:
    copies = Copies(0.8)
    form = [letters(n) for n in range(60)]
    texts = [" ".join([*form, *(letters(100 + number * 40 + n) for n in range(35))]) for number in range(300)]
    assert [copies.add(str(number), text) for number, text in enumerate(texts)] == [None] * 300
    nearly = [text.rsplit(" ", 2)[0] for text in texts[::10]]
    known = [copies.add(f"again {number}", text) for number, text in enumerate(nearly)]
    assert sum(copy is not None for copy in known) >= 25
