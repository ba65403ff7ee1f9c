"""Passages with questions, from JSON, JSONL, SQuAD's JSON or a Hugging Face dataset, read as a stream."""

import codecs
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from seal_ray.errors import ConfigError, DataError, Missing, SealError
from seal_ray.records import Json, Split, derive_seed
from seal_ray.text import lone_surrogate

CHUNK = 1 << 20
HALF_A_PAIR = ("holds half a surrogate pair, which is no character", "write the character whole, or take it out")
LONGEST_MARK = 80  # characters of a value that reports slice by
LARGEST_ENTRY = 64 << 20  # characters: what is longer is no entry but a missing bracket


@dataclass
class Passage:
    title: str
    context: str
    questions: dict[str, list[str]] = field(default_factory=dict)  # question -> every accepted answer
    weight: float = 1.0  # of a round's draw
    weak: tuple[str, ...] = ()  # sentences that a probe found weak
    marks: dict[str, str] = field(default_factory=dict)  # question -> its value of the field that reports slice by

    @property
    def group(self) -> str:
        """What makes two titles one: neither case nor spaces nor SQuAD's underscores."""
        return _same(self.title)


def load(source: str, read: Callable[[str], bytes], warn: Callable[[str], None], slice_by: str = "") -> list[Passage]:
    """All passages of a source, each once, in its order. What was left out or joined is told to `warn`."""
    shelf = _Shelf(source, warn, slice_by)
    for where, row in rows(source, read):
        shelf.add(where, row)
    return shelf.close()


def rows(source: str, read: Callable[[str], bytes]) -> Iterator[tuple[str, Json]]:
    """Each entry of a source as it stands there, with where that is."""
    return _dataset(source[3:]) if source.startswith("hf:") else _entries(source, _chunks(source, read))


def split_titles(titles: Iterable[str], *, validation: float, test: float, seed: int) -> dict[str, Split]:
    """Which split each title is in: by a seeded order of the titles, so that no title is in two."""
    names = sorted(set(titles), key=lambda t: (derive_seed(seed, "split", t), t))
    cuts = {"test": _share(test, len(names)), "validation": _share(validation, len(names))}
    if cuts["test"] + cuts["validation"] >= len(names):
        cuts = dict.fromkeys(cuts, 0)  # too few titles to keep any back
    into: dict[str, Split] = {}
    for position, name in enumerate(names):
        into[name] = (
            "test"
            if position < cuts["test"]
            else "validation"
            if position < cuts["test"] + cuts["validation"]
            else "train"
        )
    return into


def _share(share: float, count: int) -> int:
    return max(1, round(share * count)) if share > 0 else 0


# From a source to entries


def _chunks(source: str, read: Callable[[str], bytes]) -> Iterator[bytes]:
    """The bytes of a source; a local file piece by piece."""
    try:
        if "://" not in source and Path(source).is_file():
            with open(source, "rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        else:
            yield read(source)
    except (Missing, FileNotFoundError):
        raise DataError(f"domain.data: there is no {source}", hint="give the path or URI of a data file") from None
    except OSError as error:
        raise DataError(
            f"domain.data: {source} can't be read: {error.strerror}", hint="give the path or URI of a data file"
        ) from None


def _entries(source: str, chunks: Iterable[bytes]) -> Iterator[tuple[str, Json]]:
    """Each article, passage or row of JSON values, whether they stand in a list, under `data`, or one after another."""
    reader = _Reader(source, chunks)
    while (first := reader.peek()) != "":
        if first == "[":
            yield from reader.items()
        elif first == "{":
            reader.take("{")
            start, listed = reader.line, False
            row: dict[str, Json] = {}
            while reader.peek() != "}":
                key = reader.value()
                reader.take(":")
                if key == "data" and reader.peek() == "[":
                    yield from reader.items()
                    listed = True
                else:
                    row[str(key)] = reader.value()
                if reader.peek() != "}":
                    reader.take(",")
            reader.take("}")
            if not listed:
                yield f"line {start}", row
        else:
            reader.fail("expected a passage or row as a JSON object, or a list of them")


class _Reader:
    """JSON values from a stream of bytes, one after another, without holding the whole."""

    def __init__(self, source: str, chunks: Iterable[bytes]) -> None:
        self.source, self.line = source, 1
        self._chunks = iter(chunks)
        self._text = codecs.getincrementaldecoder("utf-8-sig")()
        self._buffer, self._at, self._ended = "", 0, False

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            match = _SPACE.match(self._buffer, self._at)
            assert match is not None, "an empty run of spaces always matches"
            self._move(match.end())
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def take(self, mark: str) -> None:
        if self.peek() != mark:
            self.fail(f"expected {mark!r}")
        self._at += 1

    def value(self) -> Json:
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                into, pending = error.pos - self._at, len(self._buffer) - self._at
                if pending < LARGEST_ENTRY and self._more(CHUNK + pending):
                    continue
                self._move(min(self._at + into, len(self._buffer)))
                self.fail(error.msg)
            except RecursionError:
                self.fail("nested too deeply")
            except ValueError:  # Python refuses to read integers of thousands of digits
                self.fail("a number of too many digits")
            if isinstance(value, (int, float)) and _NUMBER.fullmatch(self._buffer, end) and self._more():
                continue  # the number may go on in the next chunk
            self._move(end)
            return value

    def items(self) -> Iterator[tuple[str, Json]]:
        """The items of a list, each with where it begins."""
        self.take("[")
        count = 0
        while self.peek() != "]":
            count += 1
            line = self.line
            yield f"entry {count} (line {line})", self.value()
            if self.peek() != "]":
                self.take(",")
        self.take("]")

    def fail(self, why: str) -> NoReturn:
        near = self._buffer[self._at : self._at + 30].split("\n")[0]
        where = f"near {near!r}" if near else "the file ends"
        raise DataError(
            f"domain.data: {self.source}, line {self.line}: not JSON: {why}, {where}",
            hint="repair the file, or write it anew with a JSON library",
        )

    def _move(self, to: int) -> None:
        self.line += self._buffer.count("\n", self._at, to)
        self._at = to

    def _more(self, least: int = 1) -> bool:
        """Take in at least so many characters more, if there are any. False at the end."""
        if self._ended:
            return False
        parts, size = [self._buffer[self._at :]], 0
        self._at = 0
        while size < least and not self._ended:
            chunk = next(self._chunks, b"")
            self._ended = not chunk
            try:
                parts.append(self._text.decode(chunk, final=self._ended))
            except UnicodeDecodeError as error:
                raise DataError(
                    f"domain.data: {self.source} is not UTF-8 text ({error.reason})", hint="save it as UTF-8"
                ) from None
            size += len(parts[-1])
        self._buffer = "".join(parts)
        return size > 0


_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"[0-9.eE+-]*")
_DECODER = json.JSONDecoder()


def _dataset(name: str) -> Iterator[tuple[str, Json]]:
    """Rows of a Hugging Face dataset, streamed: `NAME`, `NAME#CONFIGURATION`, `NAME@SPLIT`."""
    name, _, part = name.partition("@")
    name, _, configuration = name.partition("#")
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError(
            f"domain.data: hf:{name} needs the package datasets", hint="install it: pip install 'seal-ray[data]'"
        ) from None
    try:
        rows = datasets.load_dataset(name, configuration or None, split=part or "train", streaming=True)
        for number, row in enumerate(rows, 1):
            yield f"row {number}", row
    except SealError:
        raise
    except Exception as error:  # whatever the hub, the network or the dataset's reader raises
        raise DataError(
            f"domain.data: hf:{name} can't be read: {type(error).__name__}: {str(error)[:300]}",
            hint="check the id, the split (hf:NAME@SPLIT) and the network, or give a file",
        ) from error


# From entries to passages


class _Shelf:
    """Gathers passages: rows of one passage together, each passage once."""

    def __init__(self, source: str, warn: Callable[[str], None], slice_by: str = "") -> None:
        self.source, self.warn, self.slice_by = source, warn, slice_by
        self.passages: dict[bytes, Passage] = {}
        self.twice: list[str] = []
        self.unanswered = 0
        self.whole: set[bytes] = set()  # passages that came with a list of questions, not row by row

    def add(self, where: str, row: Json) -> None:
        if not isinstance(row, dict):
            self._refuse(where, "", f"is a {type(row).__name__}, not an object", "write {title, context, questions}")
        if "paragraphs" in row:
            paragraphs = row["paragraphs"]
            if not isinstance(paragraphs, list):
                self._refuse(where, "paragraphs", "is not a list", "give SQuAD's form, or a flat list of passages")
            title = str(row.get("title", "")).replace("_", " ")
            for number, paragraph in enumerate(paragraphs, 1):
                if not isinstance(paragraph, dict):
                    self._refuse(f"{where}, paragraph {number}", "", "is not an object", "give context and qas")
                self._passage(f"{where}, paragraph {number}", {"title": title, **paragraph})
        else:
            self._passage(where, row)

    def _passage(self, where: str, row: dict[str, Json]) -> None:
        title, context = self._text(where, row, "title"), self._text(where, row, "context")
        where = f"{where} ({title[:40]!r})"
        by_row = "question" in row
        listed = [row] if by_row else row.get("questions", row.get("qas"))
        if not isinstance(listed, list) or not listed:
            self._refuse(where, "questions", "is missing or empty", "give at least one {question, answer}")
        key = hashlib.blake2b(" ".join(context.split()).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self.passages.get(key)
        if known and (key in self.whole or not by_row or known.title != title):
            self.twice.append(title)
        if known and _same(known.title) != _same(title):
            return  # the same text under two titles could end up in two splits
        passage = known or self.passages.setdefault(key, Passage(title, context))
        passage.weight = self._weight(where, row, passage.weight)
        passage.weak = self._weak(where, row, passage.weak)
        if not by_row:
            self.whole.add(key)
        for number, question in enumerate(listed, 1):
            there = where if by_row else f"{where}, question {number}"
            self._question(there, question, passage)
            self._mark(there, question, row, passage)

    def _weight(self, where: str, row: dict[str, Json], before: float) -> float:
        weight = row.get("weight", before)
        sound = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not sound or not math.isfinite(weight) or weight < 0:
            self._refuse(where, "weight", f"is {weight!r}", "give a number from 0 up: how often it is drawn")
        return float(weight)

    def _mark(self, where: str, question: Json, row: dict[str, Json], passage: Passage) -> None:
        """The question's own value of the field that reports slice by, else its passage's."""
        if not self.slice_by or not isinstance(question, dict):
            return
        value = question.get(self.slice_by, row.get(self.slice_by))
        if value is not None and not isinstance(value, (str, int, float, bool)):
            self._refuse(where, self.slice_by, f"is a {type(value).__name__}", "give a text, a number or a yes or no")
        if isinstance(value, str) and lone_surrogate(value):
            self._refuse(where, self.slice_by, *HALF_A_PAIR)
        if value is not None:
            passage.marks.setdefault(str(question.get("question")).strip(), str(value)[:LONGEST_MARK])

    def _weak(self, where: str, row: dict[str, Json], before: tuple[str, ...]) -> tuple[str, ...]:
        weak = row.get("weak", before)
        if not isinstance(weak, (list, tuple)) or not all(isinstance(s, str) and s.strip() for s in weak):
            self._refuse(where, "weak", "is no list of sentences", "give it as `seal-ray probe --to` writes it")
        if any(map(lone_surrogate, weak)):
            self._refuse(where, "weak", *HALF_A_PAIR)
        return tuple(" ".join(s.split()) for s in weak)

    def _question(self, where: str, row: Json, passage: Passage) -> None:
        if not isinstance(row, dict):
            self._refuse(where, "", f"is a {type(row).__name__}, not an object", "write {question, answer}")
        text = self._text(where, row, "question")
        golds = [] if row.get("is_impossible") else self._answers(where, row)
        if not golds:
            self.unanswered += 1
            return
        passage.questions[text] = list(dict.fromkeys([*passage.questions.get(text, ()), *golds]))

    def _answers(self, where: str, row: dict[str, Json]) -> list[str]:
        """Every accepted answer, from a text, a list of texts, SQuAD's objects or the hub's columns."""
        given = row.get("answer", row.get("answers"))
        if isinstance(given, dict):
            given = given.get("text")
        golds: dict[str, None] = {}
        for one in given if isinstance(given, (list, tuple)) else [given]:
            one = one.get("text") if isinstance(one, dict) else one
            if one is not None and not isinstance(one, (str, int, float)):
                self._refuse(where, "answer", f"is a {type(one).__name__}", "give a text, or a list of texts")
            if isinstance(one, float) and not math.isfinite(one):
                self._refuse(where, "answer", f"is {one}", "give a text, or a number that is one")
            text = "" if one is None else str(one).strip()
            if lone_surrogate(text):
                self._refuse(where, "answer", *HALF_A_PAIR)
            if text:
                golds[text] = None
        return list(golds)

    def _text(self, where: str, row: dict[str, Json], key: str) -> str:
        text = row.get(key)
        if not isinstance(text, str):
            self._refuse(where, key, "is missing" if text is None else "is not a text", f"give each its {key}")
        if not str(text).strip():
            self._refuse(where, key, "is empty", f"write the {key}, or take the entry out")
        if lone_surrogate(str(text)):
            self._refuse(where, key, *HALF_A_PAIR)
        return str(text).strip()

    def _refuse(self, where: str, key: str, why: str, hint: str) -> NoReturn:
        raise DataError(f"domain.data: {self.source}, {where}:{f' {key}' if key else ''} {why}", hint=hint)

    def close(self) -> list[Passage]:
        kept = [p for p in self.passages.values() if p.questions]
        if not self.passages:
            raise DataError(f"domain.data: {self.source} holds no passage", hint="give at least one, with questions")
        if not kept:
            raise DataError(
                f"domain.data: {self.source}: none of {self.unanswered} questions has an answer",
                hint="give each question the answers that count as right",
            )
        if self.twice:
            names = ", ".join(list(dict.fromkeys(self.twice))[:3])
            self.warn(f"{self.source}: {len(self.twice)} passages come twice and are taken once (first: {names})")
        if self.unanswered:
            left = len(self.passages) - len(kept)
            self.warn(
                f"{self.source}: {self.unanswered} questions without an answer are left out"
                + (f", and {left} passages that have no other" if left else "")
            )
        return kept


def _same(title: str) -> str:
    return " ".join(title.replace("_", " ").casefold().split())
