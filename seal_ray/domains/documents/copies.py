"""Texts that are there twice, or nearly: by the words in a row that two texts share, without comparing all pairs."""

import zlib
from dataclasses import dataclass

import numpy as np

WORDS = 4  # in a row
CHARACTERS = 8  # in a row, where a script has no spaces
BANDS, ROWS = 20, 5  # two texts that share 0.8 of their rows of words meet in a band in 99.96 of 100 cases
MANY = 64  # texts in a band: it is what all texts of that kind have, and tells none of them apart
PRIME = (1 << 31) - 1


@dataclass(frozen=True)
class CopyOf:
    """A text that is there already: which one that is, and how much of the two is the same (1: all)."""

    other: str
    similarity: float


class Copies:
    """Remembers texts by signatures of some hundred numbers each."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        luck = np.random.default_rng(20)
        self._a = luck.integers(1, PRIME, BANDS * ROWS, dtype=np.int64)
        self._b = luck.integers(0, PRIME, BANDS * ROWS, dtype=np.int64)
        self._signatures: list[np.ndarray] = []
        self._names: list[str] = []
        self._bands: dict[tuple[int, bytes], list[int]] = {}
        self._exact: dict[int, int] = {}

    def add(self, name: str, text: str, about: str = "") -> CopyOf | None:
        """Remember a text, or say of which one it is a copy. A copy is not remembered. `about`: what it says something
        of, where the same words say nothing of anything else.
        """
        flat = " ".join(text.casefold().split())
        exact = hash((about, flat))
        if exact in self._exact:
            return CopyOf(self._names[self._exact[exact]], 1.0)
        signature = self._signature(flat, about)
        keys = [(n, signature[n * ROWS : (n + 1) * ROWS].tobytes()) for n in range(BANDS)]
        near = {index for key in keys for index in self._bands.get(key, ())}
        for index in sorted(near) if self._threshold < 1 else ():
            similarity = float((self._signatures[index] == signature).mean())
            if similarity >= self._threshold:
                return CopyOf(self._names[index], round(similarity, 2))
        self._exact[exact] = len(self._names)
        for key in keys:
            of_key = self._bands.setdefault(key, [])
            if len(of_key) < MANY:
                of_key.append(len(self._names))
        self._names.append(name)
        self._signatures.append(signature)
        return None

    def _signature(self, flat: str, about: str) -> np.ndarray:
        words = flat.split(" ")
        if len(flat) > 12 * len(words):  # hardly a space in it
            rows = {flat[n : n + CHARACTERS] for n in range(max(1, len(flat) - CHARACTERS + 1))}
        else:
            rows = {" ".join(words[n : n + WORDS]) for n in range(max(1, len(words) - WORDS + 1))}
        own = zlib.crc32(about.encode("utf-8", "replace"))
        hashes = np.array([zlib.crc32(r.encode("utf-8", "replace"), own) & PRIME for r in rows], dtype=np.int64)
        least = np.full(BANDS * ROWS, PRIME, dtype=np.int64)
        for start in range(0, len(hashes), 4096):
            part = hashes[start : start + 4096]
            mixed = (self._a[:, None] * part[None, :] + self._b[:, None]) % PRIME
            least = np.minimum(least, mixed.min(axis=1))
        return least
