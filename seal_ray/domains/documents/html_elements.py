"""Which elements of a page are open, and whether what stands in them is read.

An end tag may be left out: `<li>` ends where the next one begins or its list ends. Where that is, and which end tag
ends nothing, follows the HTML standard ("tree construction"), for what is hidden must end where a browser ends it:
later, and a text that everybody sees is lost; earlier, and one that nobody sees is learned.
"""

from bisect import bisect_right
from collections.abc import Iterable


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


VOID = _names("area base br col embed hr img input link meta param source track wbr")
FORMATTING = _names("a b big code em font i nobr s small strike strong tt u")  # go on in what comes after their parent
_TEXT = _names("iframe noembed noframes noscript script style textarea title xmp")  # a tag in them is text
_CLOSED = _TEXT | {"template"}  # they end with their own end tag, whatever stands in them
MARKERS = _CLOSED | _names("applet caption marquee object td th")  # but not beyond these
_BLOCKS = _names("""
address article aside blockquote center dd details dialog dir div dl dt fieldset figcaption figure footer form h1 h2 h3
h4 h5 h6 header hgroup hr li listing main menu nav ol p plaintext pre search section summary table ul xmp
""")
_SPECIAL = (_BLOCKS | MARKERS | _names("body button colgroup html select tbody tfoot thead tr")) - {"dialog"}

# how far an element that ends may stand outside: none of these between
_SCOPE = MARKERS | {"html", "table"}
_LIST = _SCOPE | {"ol", "ul"}
_BUTTON = _SCOPE | {"button"}
_TABLE = _CLOSED | {"html", "table"}
_SELECT = _SCOPE | {"select"}

_CELLS = _names("caption colgroup td th")
_ROWS = _CELLS | {"tr"}
_GROUPS = _ROWS | _names("tbody tfoot thead")
_PARAGRAPH = (frozenset({"p"}), _BUTTON)
# what a beginning ends, and what keeps it from that
_ENDS = {name: [_PARAGRAPH] for name in _BLOCKS} | {
    "li": [(frozenset({"li"}), _SPECIAL - _names("address div li p")), _PARAGRAPH],
    **{n: [(_names("dd dt"), _SPECIAL - _names("address dd div dt p")), _PARAGRAPH] for n in ("dd", "dt")},
    "button": [(frozenset({"button"}), _SCOPE)],
    "option": [(frozenset({"option"}), _SELECT)],
    "optgroup": [(_names("optgroup option"), _SELECT)],
    **{name: [(_CELLS, _TABLE)] for name in ("td", "th")},
    "tr": [(_ROWS, _TABLE)],
    **{name: [(_GROUPS, _TABLE)] for name in ("caption", "colgroup", "tbody", "tfoot", "thead")},
}
_HEADINGS = _names("h1 h2 h3 h4 h5 h6")
_RUBY = _names("rp rt")
# what keeps an end tag from its element; of any other name the special elements do
_KEEPS = (
    dict.fromkeys(_SPECIAL | _names("dialog math svg"), _SCOPE)
    | dict.fromkeys(_CLOSED, frozenset[str]())
    | dict.fromkeys(_GROUPS | {"table"}, _TABLE)
    | {"li": _LIST, "option": _SELECT, "optgroup": _SELECT, "p": _BUTTON}
)


class OpenElements:
    """Takes beginnings and ends in their order; each costs the same on the average, however deep they are nested."""

    def __init__(self) -> None:
        self._open: list[tuple[str, bool]] = []  # the outermost first, each with whether its text is read
        self._at: dict[str, list[int]] = {}  # by name, where in that list
        self._formats: list[dict[str, list[bool]]] = [{}]  # formatting elements, by the marker that they stand in
        self._unread_formats = 0

    @property
    def read(self) -> bool:
        """Whether the text that comes now is."""
        return not self._unread_formats and (not self._open or self._open[-1][1])

    def inside(self, name: str) -> bool:
        return bool(self._at.get(name))

    def begin(self, name: str, *, read: bool) -> None:
        """`read`: whether its text is, as far as the element itself says."""
        for names, keeping in _ENDS.get(name, ()):
            self._end_outermost(names, keeping)
        for alike in (_HEADINGS, _RUBY if self._at.get("ruby") else ()):
            if name in alike and self._open and self._open[-1][0] in alike:
                self._leave(len(self._open) - 1)
        if name in VOID:
            return
        if name in FORMATTING:
            self._formats[-1].setdefault(name, []).append(read)
            self._unread_formats += not read
            return
        self._at.setdefault(name, []).append(len(self._open))
        self._open.append((name, read and (not self._open or self._open[-1][1])))
        if name in MARKERS:
            self._formats.append({})

    def end(self, name: str) -> bool:
        """Whether what stood in it was read."""
        if name in FORMATTING:
            if begun := self._formats[-1].get(name):
                self._unread_formats -= not begun.pop()
            return self.read
        at = self._at.get(name)
        # what comes after </body> is still in what was left open
        if not at or name in {"body", "html"} or at[-1] < self._innermost(_KEEPS.get(name, _SPECIAL)):
            return self.read
        was_read = self._open[at[-1]][1]
        self._leave(at[-1])
        return was_read and not self._unread_formats

    def _innermost(self, names: Iterable[str]) -> int:
        return max((at[-1] for name in names if (at := self._at.get(name))), default=-1)

    def _end_outermost(self, names: Iterable[str], keeping: Iterable[str]) -> None:
        """The outermost of these that nothing keeps from it ends, and with it all that stands in it."""
        if there := [at for name in names if (at := self._at.get(name))]:
            beyond = self._innermost(keeping)
            ends = [at[n] for at in there if (n := bisect_right(at, beyond)) < len(at)]
            self._leave(min(ends, default=len(self._open)))

    def _leave(self, at: int) -> None:
        while len(self._open) > at:
            name, _ = self._open.pop()
            self._at[name].pop()
            if name in MARKERS:
                self._unread_formats -= sum(begun.count(False) for begun in self._formats.pop().values())
