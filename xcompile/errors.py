"""Errors a user can act on. The command line prints them without a traceback and exits with 2."""


class XCompileError(Exception):
    """Bad input: the message says what was given, what was expected and what to do."""


class ShapeError(XCompileError):
    """An input's shape or dtype is outside what the graph was compiled for."""


class UnsupportedError(XCompileError):
    """The model needs something that no target or no eager island can express."""


class BuildError(XCompileError):
    """The host compiler is missing or rejected an emitted source."""


class ArtifactError(XCompileError):
    """A saved artifact is truncated, changed, from another version or for another CPU."""


class SimulationError(XCompileError):
    """A check of the Ascend C simulator found a mistake in a kernel; `errors` lists them all."""

    def __init__(self, message: str, errors: list | None = None) -> None:
        super().__init__(message)
        self.errors = errors or []
