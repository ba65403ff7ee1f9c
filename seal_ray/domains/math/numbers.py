"""What a tree comes to where it is a plain number, in exact arithmetic that can't grow without bounds."""

from fractions import Fraction

from seal_ray.domains.math.expressions import Expression

BITS = 4096  # of a numerator or denominator, at most


class TooLarge(Exception):
    """A number that is not computed: what equals an answer is never that large."""


def value(tree: Expression) -> Fraction | None:
    """The number that a tree is; None where it is none, or an irrational one."""
    if isinstance(tree, Fraction):
        return tree
    if isinstance(tree, str):
        return None
    operation, *parts = tree
    if operation not in {"+", "-", "*", "/", "^", "abs"}:
        return None
    numbers = [value(part) for part in parts]
    if any(number is None for number in numbers):
        return None
    return _bounded(_apply(operation, *(n for n in numbers if n is not None)))


def _apply(operation: str, left: Fraction, right: Fraction = Fraction(0)) -> Fraction | None:
    if operation == "+":
        return left + right
    if operation == "-":
        return left - right
    if operation == "*":
        return left * right
    if operation == "/":
        return left / right if right else None
    if operation == "abs":
        return abs(left)
    return _power(left, right)


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1 or (base == 0 and exponent <= 0):
        return None
    count = int(exponent)
    width = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(base) != 1 and base and abs(count) * max(1, width - 1) > BITS:
        raise TooLarge
    if abs(base) == 1:
        return Fraction(1) if count % 2 == 0 else base
    return base**count


def _bounded(number: Fraction | None) -> Fraction | None:
    if number is not None and max(number.numerator.bit_length(), number.denominator.bit_length()) > BITS:
        raise TooLarge
    return number
