"""A key for an HTTP header, from an environment variable: as a mounted secret holds it, or as a person typed it."""

import os

from seal_ray.errors import ConfigError


def key_in(variable: str) -> str:
    """The key, without the line's end that a mounted secret comes with; empty where the variable is not set.

    The HTTP library would quote a key that it can't send, so such a one is refused here, without being shown.
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"the key in {variable} has characters that no HTTP header takes",
            hint="put nothing but the key there: printable ASCII, on one line",
        )
    return key
