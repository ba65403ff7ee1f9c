"""What of a web page is read: elements end where a browser ends them, whatever its tags leave out."""

import pytest

from seal_ray.domains.documents.sections import read_sections


@pytest.mark.parametrize(
    ("page", "told"),
    [
        # its end tag is left out
        ("<ul><li>A<li hidden>x<li>B</ul>C", "A\nB\nC"),
        ("<ul><li>A<li style='display:none'>x</ul><p>B", "A\nB"),
        ("<ul><li hidden>x<ul><li>x</li></ul>x<li>B</ul>", "B"),
        ("<ul><li hidden>x<div>x<li>A</div>B</ul>C", "A\nB\nC"),
        ("<p aria-hidden=true>x<p>A", "A"),
        ("<div><p hidden>x</div>A", "A"),
        ("<p hidden>x<b>x<h2>H</h2>A", "A"),
        ("<dl><dt hidden>x<dd>A<dd hidden>x<dt>B</dl>C", "A\nB\nC"),
        ("<table><tr><td>A<td hidden>x<td>B<tr hidden><td>x<tr><td>C</table>D", "A B\nC\nD"),
        ("<table><tbody hidden><tr><td>x<tbody><tr><td>A</table>B", "A\nB"),
        ("<table><tr><td hidden><table><tr><td>x</table>x<td>A</table>B", "A\nB"),
        ("<select><option hidden>x<option>A<optgroup hidden><option>x</select>B", "A\nB"),
        ("<ruby>A<rp hidden>x<rt>B</ruby>C", "ABC"),
        # it is left out though it must not be: as browsers mend it
        ("<section><div hidden>x</section>A", "A"),
        ("<h2>H<span hidden>x</h2>A", "A"),
        # an end tag of nothing that is open ends nothing
        ("<div hidden>x</span>x</li>x</div>A", "A"),
        ("<span hidden>x<div>x</span>x</div>x</span>A", "A"),
        ("<div hidden>x<table><tr><td>x</div>x</table>x</div>A", "A"),
        # formatting goes on in what comes after its parent
        ("<div><p><b hidden>x</p><p>x</p></b>A</div>", "A"),
        ("<table><tr><td><b hidden>x<td>A</table>B", "A\nB"),
        ("<div hidden>x<textarea></div>x</textarea>x</div>A", "A"),
    ],
)
def test_what_is_hidden_ends_where_a_browser_ends_it(page: str, told: str) -> None:
    made = read_sections("p.html", f"<!doctype html><body>{page}".encode())
    assert "\n".join(s.text for s in made.sections) == told


def test_a_heading_without_an_end_takes_no_text_away() -> None:
    made = read_sections("p.html", b"<h1>Tide<br>clock</h1><p>One.<h2>Wells<p>Two.<h2>Bells</h2>Three.")
    assert [(s.headings, s.text) for s in made.sections] == [
        (("Tide clock",), "One."),
        (("Tide clock",), "Wells\nTwo."),
        (("Tide clock", "Bells"), "Three."),
    ]


def told(page: str) -> str:
    return "\n".join(s.text for s in read_sections("p.html", f"<!doctype html><body>{page}".encode()).sections)


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>The clock was built by Odalys\nWren, who\r\n  came by <b>ferry\n</b> in May.</p>\n<p>It ran.",
         "The clock was built by Odalys Wren, who came by ferry in May.\nIt ran."),
        ("<p>A<br>\nB", "A\nB"),
        ("A<pre>\ndef f(x):\n    return x\n\n\n\ty = &lt;b&gt;\n</pre>B\nC",
         "A\ndef f(x):\n    return x\n\n\n    y = <b>\n\nB C"),
        ("<pre>  a  b\n<b>  c\nd</b>\ne</pre>", "  a  b\n  c\nd\ne"),
        ("<pre>\n \n</pre>A", "A"),
        ("<pre hidden>x\ny</pre>A", "A"),
    ],
)  # fmt: skip
def test_a_line_of_the_source_is_one_of_the_text_only_where_a_browser_shows_it(page: str, text: str) -> None:
    assert told(page) == text


@pytest.mark.parametrize(
    "page",
    [
        "<select><option>A</option><option>B</option></select>C",
        "<select><optgroup><option>A</option></optgroup><optgroup><option>B</select>C",
        "<details><summary>A</summary>B</details>C",
        "<fieldset><legend>A</legend>B</fieldset>C",
        "<table><caption>A</caption><thead><tr><td>B</thead><tfoot>C</table>",
        "A<dialog open>B</dialog>C",
        "A<menu>B</menu>C",
        "A<center>B</center>C",
    ],
)
def test_what_is_shown_on_lines_of_its_own_is_read_so(page: str) -> None:
    assert told(page) == "A\nB\nC"


def test_a_heading_in_preformatted_text_has_plain_blanks() -> None:
    (section,) = read_sections("p.html", b"<pre>x</pre><pre><h2>Tide  clock</h2>\none\n  two</pre>").sections[1:]
    assert section.headings == ("Tide clock",) and section.text == "one\n  two"
