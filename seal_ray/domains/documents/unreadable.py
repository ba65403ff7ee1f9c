"""Why a file is no document that can be learned from."""


class Unreadable(Exception):
    """A file that is passed over, and said so. `kind` is a word to count by."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message

    def __reduce__(self) -> tuple[object, ...]:
        return Unreadable, (self.kind, self.message)
