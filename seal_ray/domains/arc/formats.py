"""How grids and puzzles are written as text, and how a grid is found again in whatever a model wrote.

Reading takes one pass over the text, so its time is bounded by the text's length.
"""

import re
from typing import Literal

import numpy as np

from seal_ray.domains.arc.grids import COLOURS, MAX_SIDE, Grid, Puzzle

Format = Literal["digits", "lists"]

INPUT, OUTPUT = "Input:\n", "Output:\n"
STOP = "\n\n"  # between the pairs of a puzzle, never inside a grid

_BETWEEN = re.compile(r"[ \t\r,|]+")  # what models put between the digits of a row
_TOKEN = re.compile(r"[0-9]+|[\[\],]|[^0-9\[\],\s]+")
_FENCE = re.compile(r"```[a-z]*")


def write_grid(grid: Grid, form: Format) -> str:
    if form == "lists":
        return str(grid.tolist())
    return "\n".join("".join(map(str, row)) for row in grid.tolist())


def puzzle_text(puzzle: Puzzle, form: Format) -> str:
    """The puzzle up to where its output begins."""
    pairs = [
        f"{INPUT}{write_grid(pair.input, form)}\n{OUTPUT}{write_grid(pair.output, form)}{STOP}"
        for pair in puzzle.demonstrations
    ]
    return "".join(pairs) + f"{INPUT}{write_grid(puzzle.input, form)}\n{OUTPUT}"


def longest_grid(form: Format, side: int) -> int:
    """Characters of a grid of that many rows and cells: no tokenizer needs more tokens for it."""
    return side * (side + 1) - 1 if form == "digits" else side * (3 * side + 2)


def read_grid(text: str, form: Format) -> Grid | None:
    """The grid that an answer means, or None.

    An answer that opens with a grid is that grid, whatever follows. Where prose comes first, the answer is the
    grid that it ends on. Half a grid, ragged rows, colours over 9 and sides over 30 are no grid.
    """
    text = _FENCE.sub("", text)
    for find in (_lists, _rows) if form == "lists" else (_rows, _lists):
        opens, grids = find(text)
        if grids:
            return grids[0] if opens else grids[-1]
    return None


def _number(token: str) -> bool:
    return token.isascii() and token.isdigit()  # `²` is a digit to Python, and no number


def _grid(rows: list[list[int]]) -> Grid | None:
    if not rows or len(rows) > MAX_SIDE or not 0 < len(rows[0]) <= MAX_SIDE:
        return None
    if any(len(row) != len(rows[0]) for row in rows) or any(not 0 <= c < COLOURS for row in rows for c in row):
        return None
    return np.array(rows, dtype=np.int8)


def _rows(text: str) -> tuple[bool, list[Grid]]:
    """Blocks of neighbouring lines that hold digits alone; and whether the text opens with one."""
    grids: list[Grid] = []
    block: list[list[int]] = []
    opens = spoken = False
    for line in [*text.split("\n"), ""]:
        cells = [piece for piece in _BETWEEN.split(line) if piece]
        if len(cells) == 1:
            cells = list(cells[0])
        if cells and all(map(_number, cells)):
            # a number over 9 is no colour: its row has no cells, and so its block is no grid
            row = [int(cell) for cell in cells[: MAX_SIDE + 1] if len(cell) == 1]
            block.append(row if len(row) == min(len(cells), MAX_SIDE + 1) else [])
            continue
        if block:
            grid = _grid(block)
            if grid is not None:
                opens = opens or not (spoken or grids)
                grids.append(grid)
            spoken, block = True, []
        spoken = spoken or bool(cells)
    return opens, grids


def _lists(text: str) -> tuple[bool, list[Grid]]:
    """Lists of lists of numbers; and whether the text opens with one."""
    grids: list[Grid] = []
    rows: list[list[int]] | None = None  # of the list of lists that is open
    row: list[int] | None = None
    opens, spoken, before = False, False, ""
    for token in _TOKEN.findall(text):
        follows, before = before, token
        if token == "[":
            if row is not None:  # a third level: what was open before the last bracket is no grid
                rows, row, spoken = [], [], True
            elif rows is not None:
                row = []
            else:
                rows = []
        elif token == "]":
            if row is not None and rows is not None:
                rows.append(row)
                row = None
            elif rows is not None:
                grid = _grid(rows)
                if grid is not None:
                    opens = opens or not (spoken or grids)
                    grids.append(grid)
                rows, spoken = None, True
        elif row is not None and _number(token) and follows in ("[", ","):
            row.append(int(token[:3]))
        elif not (token == "," and (row is None or _number(follows))):
            rows, row, spoken = None, None, True
    return opens, grids
