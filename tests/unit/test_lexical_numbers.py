"""Numbers, denials and small words as the lexical and the exact grader read them."""

import pytest
from growth import grows_faster

from seal_ray.grading.lexical import ExactGrader, correct, score
from seal_ray.grading.overlap import words


def exact(gold: str, answer: str) -> bool:
    return ExactGrader().grade([("What is it?", (gold,), answer)]) == [(True, 1.0)]


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("10 percent", "10%"),
        ("10 %", "10%"),
        ("10%", "ten per cent"),
        ("2 million", "two million"),
        ("2,000,000", "two million"),
        ("200", "two hundred"),
        ("1,000", "a thousand"),
        ("120", "one hundred and twenty"),
        ("2,500", "two thousand five hundred"),
        ("121,000", "one hundred twenty-one thousand"),
        ("1900", "nineteen hundred"),
        ("-5", "minus 5"),
        ("-5 degrees", "Negative 5 degrees"),
        ("A", "A."),
        ("B", "B."),
        ("It", "it."),
        ("the 1990s", "In the 1990's."),
        ("number one", "No. 1"),
        ("minus forty", "-40"),
        ("-21 degrees", "minus twenty-one degrees"),
        ("40 degrees below zero", "-40 degrees"),
        ("10%", "10.0%"),
        ("a population of a million", "a population of one million"),
        ("22nd", "twenty-second"),
        ("42nd Street", "Forty-second Street"),
        ("19th century", "the nineteenth century"),
        ("the twentieth century", "20th century"),
    ],
)
def test_they_are_the_same(gold: str, answer: str) -> None:
    for one, other in ((gold, answer), (answer, gold)):
        assert exact(one, other)
        assert correct("What is it?", one, other)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("10%", "20 percent"),
        ("10%", "10"),
        ("10", "10%"),
        ("3 million", "two million"),
        ("100", "two hundred"),
        ("1 million", "half a million"),
        ("1990", "1990s"),
        ("5 degrees", "minus 5 degrees"),
        ("5 degrees", "negative 5"),
        ("5", "negative 5"),
        ("5", "minus five"),
        ("five degrees", "minus five degrees"),
        ("20", "20 below zero"),
        ("Selmouth", "can't be Selmouth"),
        ("Selmouth", "can’t be Selmouth"),
        ("Selmouth", "isn't Selmouth"),
        ("Selmouth", "isn’t Selmouth"),
        ("Selmouth", "It won't be Selmouth"),
        ("Ada Brunel", "It wasn't Ada Brunel"),
        ("A", "The answer is B"),
        ("A", "It is a boat"),
        ("A", "A boat"),
    ],
)
def test_they_are_not_the_same(gold: str, answer: str) -> None:
    assert not exact(gold, answer)
    assert not correct("What is it?", gold, answer)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("62%", "62 percent of the people"),
        ("3,000", "about three thousand soldiers"),
        ("A", "The answer is A"),
        ("A", "A) the ferry"),
        ("The Who", "It was The Who"),
        ("the 1960s", "September 30, 1960"),
        ("Ada Brunel", "No, it was Ada Brunel"),
        ("the ninth symphony", "Symphony No. 9"),
        ("5% to 10%", "5% -10%"),
        ("747", "Boeing 747s"),
        ("8", "5-(-3)=8"),
        ("12", "minus one plus 13 = 12"),
        ("fell 5%", "-5%"),
        ("a loss of $5 million", "-$5 million"),
        ("5 m below sea level", "-5 m"),
    ],
)
def test_it_is_found_among_other_words(gold: str, answer: str) -> None:
    assert correct("What is it?", gold, answer)


def test_where_percent_is_asked_for_it_need_not_be_said() -> None:
    assert correct("What percent of them voted?", "10 percent", "10")
    assert not correct("What percent of them voted?", "10 percent", "20")
    for gold, answer in (("45", "45 percent"), ("45%", "45"), ("45", "45%")):
        assert correct("What percentage of the people voted?", gold, answer)
    assert not correct("What percentage of the people voted?", "45%", "54%")


@pytest.mark.parametrize("gold", ["The Who", "Why This", "DO IT", "the WHO"])
def test_an_answer_of_small_words_that_is_the_gold_answer_is_surely_right(gold: str) -> None:
    assert score("What is it?", gold, gold) >= 0.99


def test_numbers_beside_each_other_are_not_added_up() -> None:
    assert words("two hundred, three hundred") == ["200", "300"]
    assert words("between one hundred and two hundred") == ["between", "100", "200"]
    assert words("one thousand and two hundred") == ["1000", "200"]
    assert words("2 million five years ago") == words("2000000 5 years ago")
    assert words("they lost 20-3") == words("they lost 20 3")
    assert words("1904 St. Louis") == ["1904", "st", "louis"] and words("May 1st") == ["may", "1"]


@pytest.mark.parametrize(
    "part", ["million ", "two hundred and ", "one trillion ", "minus ", "n't", "9", "1990s ", "1:"]
)
def test_a_long_run_of_them_takes_no_very_long_time(part: str) -> None:
    for before in ("", "one ", "5 "):
        assert not grows_faster(lambda text: score("Who?", ["The Who", "5 million"], text), part, before)
