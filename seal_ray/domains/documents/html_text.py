"""The text of a web page: what a person would read, under its headings."""

import re

from seal_ray.domains.documents.html_tokens import Tag, html_tokens

SILENT = frozenset({"script", "style", "template", "noscript", "svg", "math", "nav", "footer", "iframe"})
_OWN_LINES = """
address article aside blockquote br dd div dl dt fieldset figcaption figure form header hr li main ol p pre section
table tr ul
"""
LINES = frozenset(_OWN_LINES.split())
CELLS = frozenset({"td", "th"})
HEADINGS = {f"h{n}": n for n in range(1, 7)}
VOID = frozenset(["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"])
HIDING = {("display", "none"), ("visibility", "hidden")}
NOTHING = re.compile(r"0+(?:\.0*)?(?:%|[a-z]+)?")
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
        self._silent: list[str] = []  # elements whose text is not read, the outermost first
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
        if (unread or self._silent) and tag.name not in VOID:
            if not self._silent or tag.name == self._silent[0]:
                self._silent.append(tag.name)
        elif tag.name in HEADINGS:
            self.end_section()
            self._heading = []
        elif tag.name in LINES:
            self._text.append("\n")
        elif tag.name in CELLS:
            self._text.append(" ")

    def _end(self, name: str) -> None:
        if name == "title":
            self._in_title = False
        if self._silent:
            if name == self._silent[-1]:
                self._silent.pop()
        elif name in HEADINGS and self._heading is not None:
            words = " ".join("".join(self._heading).split())
            level = HEADINGS[name]
            self._above = [(n, w) for n, w in self._above if n < level] + ([(level, words)] if words else [])
            self._first_heading = self._first_heading or words
            self._heading = None
        elif name in LINES:
            self._text.append("\n")

    def _read(self, text: str) -> None:
        if self._in_title:
            self._title.append(text)
        elif not self._silent:
            (self._text if self._heading is None else self._heading).append(text)

    def end_section(self) -> None:
        lines = [" ".join(line.split()) for line in "".join(self._text).split("\n")]
        text = "\n".join(line for line in lines if line)
        if text:
            self.sections.append((tuple(words for _, words in self._above), text))
        self._text.clear()


def _is_invisible(style: str) -> bool:
    """Whether what has this style is not to be seen. `font-size: 0.9em` is."""
    for declared in style.lower().split(";"):
        name, _, value = (part.strip() for part in declared.replace("!important", "").partition(":"))
        if (name, value) in HIDING or (name in {"font-size", "opacity"} and NOTHING.fullmatch(value)):
            return True
    return False
