"""Which step answers a question does not depend on the process that asks."""

from seal_ray.loops.studying.route import TextRouter


def test_of_two_steps_that_share_as_much_the_later_one_answers_in_whatever_order_words_are_added() -> None:
    for name in (f"q{a}{b}" for a in "bcdfghjklmn" for b in "bcdfghjklmn"):
        pairs = [(f"{name}{c}o", f"{name}{c}u") for c in "bcdfghjkl"]  # of each, one is the first step's
        others = [" ".join(map(" ".join, pairs[at : at + n])) for at, n in ((0, 2), (1, 3), (2, 3), (2, 1))]
        router = TextRouter([*(" ".join(own) for own in zip(*pairs, strict=True)), *others])
        assert router.choose(" ".join(map(" ".join, pairs))) == 2
