"""The one exception that a user is meant to see: its text is one line and `scfs` prints it without a traceback."""


class ScfsError(Exception):
    """Bad input or a failed run; the message names the file or key, the value and what is allowed, on one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


class ProcessLostError(ScfsError):
    """Another process of the training is gone, so that a collective failed."""
