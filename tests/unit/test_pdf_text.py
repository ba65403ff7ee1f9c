"""What of a PDF's page is its text, and what is only the page's number."""

import pytest

from seal_ray.domains.documents.pdf_text import _flowing


@pytest.mark.parametrize(
    ("page", "flowing"),
    [
        ("Wells\n42\nBells\n3 \nEnd.", "Wells\n42\nBells\n3 \nEnd."),
        ("It was burned down in\n1652\nand never built again.", "It was burned down in\n1652\nand never built again."),
        ("12\nThe clock had dials.", "The clock had dials."),
        ("\n \nThe clock had dials.\n 12 \n\n", "The clock had dials."),
        ("The clock had 12", "The clock had 12"),
        ("12", ""),
        ("12\n13", ""),
        ("", ""),
        ("One.\r\nTwo.\rThree.", "One.\nTwo.\nThree."),
        ("a baro-\r\nmeter", "a barometer"),
    ],
)
def test_only_a_pages_first_or_last_line_is_its_number(page: str, flowing: str) -> None:
    assert _flowing(page) == flowing
