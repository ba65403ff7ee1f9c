"""The text of a web page: what a person would read, under its headings."""

import re

from seal_ray.domains.documents.html_elements import VOID, OpenElements
from seal_ray.domains.documents.html_tokens import Tag, html_tokens

SILENT = frozenset({"script", "style", "template", "noscript", "svg", "math", "nav", "footer", "iframe"})
_OWN_LINES = """
address article aside blockquote br caption center dd details dialog div dl dt fieldset figcaption figure form header hr
legend li main menu ol optgroup option p pre section select summary table tbody tfoot thead tr ul
"""
LINES = frozenset(_OWN_LINES.split())
CELLS = frozenset({"td", "th"})
HEADINGS = {f"h{n}": n for n in range(1, 7)}
HIDING = {("display", "none"), ("visibility", "hidden")}
NOTHING = re.compile(r"0+(?:\.0*)?(?:%|[a-z]+)?")
# what no page holds stands for a blank and for the beginning of a line that stay as they are
BLANK, LINE = "\0", "\1"
KEPT = str.maketrans({" ": BLANK, "\xa0": BLANK, "\t": BLANK * 4, "\n": f"\n{LINE}"})
Sections = list[tuple[tuple[str, ...], str]]


def html_sections(text: str) -> tuple[str, Sections]:
    """The page's title, and each text with the headings above it."""
    page = _Page()
    for token in html_tokens(text):
        page.take(token)
    page.end_section()
    return page.title(), page.sections


class _Page:
    """Gathers text; linear in the page's length, however deep its elements are nested."""

    def __init__(self) -> None:
        self.sections: Sections = []
        self._title: list[str] = []
        self._first_heading = ""
        self._above: list[tuple[int, str]] = []
        self._text: list[str] = []
        self._elements = OpenElements()
        self._heading: list[str] | None = None
        self._in_title = False

    def title(self) -> str:
        return " ".join("".join(self._title).split()) or self._first_heading

    def take(self, token: Tag | str) -> None:
        if isinstance(token, str):
            self._read(token)
        elif token.alone:
            if token.name in VOID:
                self._begin(token)
        elif token.ends:
            self._end(token.name)
        else:
            self._begin(token)

    def _begin(self, tag: Tag) -> None:
        if tag.name == "title" and not self._title:
            self._in_title = True
        hidden = "hidden" in tag.attributes or tag.attributes.get("aria-hidden") == "true"
        unread = hidden or tag.name in SILENT or _is_invisible(tag.attributes.get("style", ""))
        self._elements.begin(tag.name, read=not unread)
        if not self._elements.read:
            return
        if tag.name in HEADINGS:
            self.end_section()
            self._heading = []
        elif tag.name in LINES:
            self._add("\n")
        elif tag.name in CELLS:
            self._add(" ")

    def _end(self, name: str) -> None:
        if name == "title":
            self._in_title = False
        if not self._elements.end(name):
            return
        if name in HEADINGS and self._heading is not None:
            words = " ".join("".join(self._heading).split())
            level = HEADINGS[name]
            self._above = [(n, w) for n, w in self._above if n < level] + ([(level, words)] if words else [])
            self._first_heading = self._first_heading or words
            self._heading = None
        elif name in LINES:
            self._add("\n")

    def _read(self, text: str) -> None:
        if self._in_title:
            self._title.append(text)
        elif self._elements.read:
            as_it_is = self._heading is None and self._elements.inside("pre")
            self._add(text.translate(KEPT) if as_it_is else text.replace("\n", " "))

    def _add(self, text: str) -> None:
        (self._text if self._heading is None else self._heading).append(text)

    def end_section(self) -> None:
        if self._heading is not None:  # nothing says where it ends: then it is text
            self._text += self._heading
            self._heading = None
        lines = [" ".join(line.split()) for line in "".join(self._text).split("\n")]
        text = "\n".join(line.replace(BLANK, " ").replace(LINE, "").rstrip() for line in lines if line).strip("\n")
        if text.strip():
            self.sections.append((tuple(words for _, words in self._above), text))
        self._text.clear()


def _is_invisible(style: str) -> bool:
    """Whether what has this style is not to be seen. `font-size: 0.9em` is."""
    for declared in style.lower().split(";"):
        name, _, value = (part.strip() for part in declared.replace("!important", "").partition(":"))
        if (name, value) in HIDING or (name in {"font-size", "opacity"} and NOTHING.fullmatch(value)):
            return True
    return False
