"""Files that hold a run's texts: its owner's and the group's, and nobody else's, whatever the umask says."""

from pathlib import Path

from seal_ray.errors import ConfigError


def write_private(to: Path, content: str | bytes) -> None:
    """Write the file; what no encoding can hold becomes question marks."""
    try:
        if to.exists() and not to.is_file():  # a folder or a device would lose its rights here
            raise ConfigError(f"{to} can't be written: it is no regular file", hint="name another file with --to")
        to.parent.mkdir(parents=True, exist_ok=True)
        to.touch()
        to.chmod(to.stat().st_mode & ~0o007)
        to.write_bytes(content.encode("utf-8", "replace") if isinstance(content, str) else content)
    except OSError as error:
        raise ConfigError(f"{to} can't be written: {error.strerror}", hint="name another file with --to") from None
