"""Every way edgekit fails on purpose, each with its exit code.

::

    EdgekitError
    ├── UsageError          2   the command was called wrongly (typer's own usage errors are 2 too)
    ├── GateError           3   a gate failed: parity or a budget
    ├── InputError          4   a film, table, run or setting is unusable
    │   ├── FilmError       4   a film can't be read; it has a reason
    │   └── CalibrationError 4  the calibration patients do not do for a variant
    ├── MissingError        5   a dependency is missing, or this machine can't build the target
    └── DamagedBundleError  6   a bundle is damaged or was tampered with

A message says what happened and what was expected; the remedy says what to type next. The command line prints both and no
traceback (``--debug`` shows it).
"""

from __future__ import annotations

__all__ = ["CalibrationError", "DamagedBundleError", "EdgekitError", "FilmError", "GateError", "InputError", "MissingError", "UsageError"]


class EdgekitError(Exception):
    """Base of all errors that edgekit raises on purpose.

    Parameters
    ----------
    message
        What happened, and what was expected instead.
    remedy
        What the user can do next; may be empty when the message already says it.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class UsageError(EdgekitError):
    """The command was called wrongly."""

    exit_code = 2


class GateError(EdgekitError):
    """A gate failed: the parity verdict is not PASS, or a budget is exceeded."""

    exit_code = 3


class InputError(EdgekitError):
    """A film, table, run folder or setting can't be used."""

    exit_code = 4


class FilmError(InputError):
    """A film can't be read.

    Parameters
    ----------
    message, remedy
        See `EdgekitError`.
    reason
        A code of section 4 of ``docs/canvas.md``: the same on every host.
    """

    def __init__(self, message: str, remedy: str = "", reason: str = "") -> None:
        super().__init__(message, remedy)
        self.reason = reason


class CalibrationError(InputError):
    """The run's calibration patients do not do for this variant; another one may need none."""


class MissingError(EdgekitError):
    """A dependency is missing, or this machine can't build or run the target."""

    exit_code = 5


class DamagedBundleError(EdgekitError):
    """A bundle's content does not match its manifest."""

    exit_code = 6
