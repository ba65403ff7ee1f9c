"""Rows of a data file or data set whose fields have names of their own: which field is what, the configuration says."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from seal_ray.domains import passages
from seal_ray.errors import DataError
from seal_ray.records import Json
from seal_ray.text import lone_surrogate


@dataclass(frozen=True)
class Row:
    """One row, with where it stands and under which names its fields are looked for."""

    source: str
    where: str
    values: Mapping[str, Json]
    names: Mapping[str, str]

    def get(self, field: str) -> Json:
        return self.values.get(self.names.get(field, field))

    def text(self, field: str, *, needed: bool = True) -> str:
        """A field as text; a number is written out. Empty where it need not be there."""
        value = self.get(field)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            value = str(value)
        if value is None and not needed:
            return ""
        if not isinstance(value, str):
            self.refuse(field, "is missing" if value is None else f"is a {type(value).__name__}", "give it as a text")
        if lone_surrogate(value):
            self.refuse(field, *passages.HALF_A_PAIR)
        if needed and not value.strip():
            self.refuse(field, "is empty", "write it, or take the row out")
        return value.strip() if needed else value

    def texts(self, field: str) -> list[str]:
        """A field that is a text or a list of texts; empty where it is not there."""
        value = self.get(field)
        if value is None:
            return []
        listed = value if isinstance(value, (list, tuple)) else [value]
        return [Row(self.source, self.where, {field: one}, {}).text(field, needed=False) for one in listed]

    def refuse(self, field: str, why: str, hint: str) -> NoReturn:
        name = self.names.get(field, field)
        also = f" (domain.fields: {field})" if field not in self.names else ""
        raise DataError(f"domain.data: {self.source}, {self.where}: {name} {why}{also}", hint=hint)


def read_rows(source: str, read: Callable[[str], bytes], names: Mapping[str, str]) -> Iterator[Row]:
    """Every row of JSON, of JSON lines or of `hf:DATASET`."""
    count = 0
    for where, values in passages.rows(source, read):
        if not isinstance(values, dict):
            raise DataError(f"domain.data: {source}, {where}: is no object", hint="give one JSON object for each row")
        count += 1
        yield Row(source, where, values, names)
    if not count:
        raise DataError(f"domain.data: {source} holds no row", hint="give one JSON object for each row")
