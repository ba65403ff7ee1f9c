"""Expressions as people and models write them, read into trees: numbers, LaTeX, powers, roots. None is evaluated.

A tree is a tuple `(operation, argument, ...)`; its leaves are numbers as `Fraction` and names as text. Reading takes
time linear in the length, and what is too long or too deep is no expression.
"""

import re
from fractions import Fraction
from typing import Any, NoReturn

Expression = Any  # Fraction | str | tuple[str, Expression, ...]

LONGEST = 400  # characters of an expression
DEEPEST = 40
DIGITS = 60  # of a number
FUNCTIONS = ("sqrt", "sin", "cos", "tan", "log", "ln", "exp", "abs", "arcsin", "arccos", "arctan")
VARIABLES = frozenset("abcdkmnpqrtxyz")  # letters that may stand side by side
CONSTANTS = ("pi", "infty", "i", "e")

_TOKENS = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<name>\\?[A-Za-z]+)"
    r"|(?P<mark>\*\*|\\[%{},;!:| ]|[-+*/^(){}\[\],=%!|_<>]))"
)
_DROPPED = re.compile(
    r"\\(?:left|right|displaystyle|,|;|!|:| )|\\?\$|\\\(|\\\)|\\\[|\\\]|°|\^\s*\\?circ|\^\s*\{\s*\\circ\s*\}"
)
_WORDS = re.compile(r"\\(?:text|mathrm|textbf|mbox)\s*\{[^{}]*\}(?:\s*\^\s*(?:\{[^{}]*\}|-?\d))?")  # and cm^2
_THOUSANDS = re.compile(r"(?<=\d)(?:,(?:\\!)?|\{,\})(?=\d{3}(?!\d))")
_MIXED = re.compile(r"\d+ \\?[dt]?frac (?:\d\d|(?:\d|\{ \d+ \}) (?:\d|\{ \d+ \}))(?: |$)")  # tokens with spaces between
PERCENT = re.compile(r"(?<!\s)\s*+\b(?:percent|per cent)\b", re.IGNORECASE)
_SIGNS = {"\\cdot": "*", "\\times": "*", "×": "*", "·": "*", "÷": "/", "\\div": "/", "−": "-", "π": " pi ", "\\%": "%"}


class NoExpression(Exception):
    """A text is no expression."""


def read(text: str) -> Expression:
    """The tree of an expression; several with commas between them, or in brackets, make a list."""
    if len(text) > LONGEST:
        raise NoExpression(f"an expression of {len(text)} characters")
    text = PERCENT.sub("%", _WORDS.sub(" ", _THOUSANDS.sub("", text)))
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    text = _DROPPED.sub(" ", text).strip().rstrip(".,;:")
    parser = _Parser(text)
    tree = parser.items()
    parser.end()
    return tree


class _Parser:
    """Recursive descent over tokens; an argument of a LaTeX command may be one digit or letter without braces."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text.rstrip()):
            match = _TOKENS.match(text, at)
            if not match:
                self.fail(f"{text[at : at + 10]!r} is no part of one")
            self.tokens.append((str(match.lastgroup), match[match.lastgroup or 0]))
            at = match.end()
        self.at = self.depth = 0

    def fail(self, why: str) -> NoReturn:
        raise NoExpression(why)

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        token = self.peek()
        if not token or (wanted and token not in wanted):
            self.fail(f"expected {' or '.join(wanted) or 'more'}, not {token!r}")
        self.at += 1
        return token

    def end(self) -> None:
        if self.peek():
            self.fail(f"{self.peek()!r} comes after its end")

    def items(self) -> Expression:
        relations = [self.relation()]
        while self.peek() == ",":
            self.take(",")
            relations.append(self.relation())
        return relations[0] if len(relations) == 1 else ("list", *relations)

    def relation(self) -> Expression:
        sides = [self.sum()]
        while self.peek() == "=":
            self.take("=")
            sides.append(self.sum())
        return sides[0] if len(sides) == 1 else ("=", *sides)

    def sum(self) -> Expression:
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail("nested too deeply")
        tree = self.product()
        while self.peek() in {"+", "-"}:
            tree = (self.take(), tree, self.product())
        self.depth -= 1
        return tree

    def product(self) -> Expression:
        tree = self.signed()
        while True:
            token = self.peek()
            if token in {"*", "/"}:
                tree = (self.take(), tree, self.signed())
            elif token in {"(", "\\{"} or self.kind() == "name":
                tree = ("*", tree, self.power())  # what stands side by side is multiplied
            else:
                return tree

    def signed(self) -> Expression:
        if self.peek() in {"+", "-"}:
            sign = self.take()
            self.depth += 1
            if self.depth > DEEPEST:
                self.fail("nested too deeply")
            inner = self.signed()
            self.depth -= 1
            return ("-", Fraction(0), inner) if sign == "-" else inner
        return self.power()

    def power(self) -> Expression:
        tree = ("+", self.atom(), self.atom()) if self.mixed() else self.atom()
        while self.peek() in {"%", "!"}:
            tree = ("/", tree, Fraction(100)) if self.take() == "%" else ("!", tree)
        if self.peek() in {"^", "**"}:
            self.take()
            return ("^", tree, self.argument() if self.peek() == "{" else self.signed())
        return tree

    def mixed(self) -> bool:
        """Whether a number like `3\\frac{1}{2}` comes next, which is a sum; in `2^3\\frac{1}{2}` there is none."""
        kind, before = self.tokens[self.at - 1] if self.at else ("mark", "")
        ahead = " ".join(token for _, token in self.tokens[self.at : self.at + 9])
        return kind == "mark" and before not in {"^", "**"} and bool(_MIXED.match(ahead))

    def atom(self) -> Expression:
        token, kind = self.peek(), self.kind()
        if kind == "number":
            self.take()
            if len(token) > DIGITS:
                self.fail(f"a number of {len(token)} digits")
            return Fraction(token)
        if kind == "name":
            return self.named(self.take())
        closing = {"(": ")", "[": "]", "{": "}", "|": "|", "\\{": "\\}"}.get(token)
        if not closing:
            self.fail(f"{token!r} begins nothing" if token else "it breaks off")
        self.take()
        inner = self.items()
        ended = self.take(*({")", "]"} if token in {"(", "["} else {closing}))
        if token == "|":
            return ("abs", inner)
        if isinstance(inner, tuple) and inner[0] == "list":
            return ("set", *inner[1:]) if token == "\\{" else ("tuple", token + ended, *inner[1:])
        return ("set", inner) if token == "\\{" else inner

    def named(self, token: str) -> Expression:
        name = token.removeprefix("\\")
        if name in {"frac", "dfrac", "tfrac"}:
            return ("/", self.argument(), self.argument())
        if name == "sqrt" and self.peek() == "[":
            self.take("[")
            degree = self.sum()
            self.take("]")
            return ("^", self.argument(), ("/", Fraction(1), degree))
        if name in FUNCTIONS:
            return (name, self.argument() if self.peek() in {"{", "("} else self.power())
        if name in CONSTANTS or len(name) == 1:
            return name
        if token.startswith("\\"):
            self.fail(f"{token} is not known")
        if len(name) > 3 or not set(name) <= VARIABLES:
            self.fail(f"{name!r} is a word")
        tree: Expression = name[0]
        for letter in name[1:]:
            tree = ("*", tree, letter)
        return tree

    def argument(self) -> Expression:
        if self.peek() == "{":
            self.take("{")
            inner = self.sum()
            self.take("}")
            return inner
        if self.kind() == "number":  # \frac12 has two of them
            kind, token = self.tokens[self.at]
            if not (token.isdecimal() and len(token) > 1):
                return self.atom()
            self.tokens[self.at] = (kind, token[1:])
            return Fraction(token[0])
        return self.atom()
