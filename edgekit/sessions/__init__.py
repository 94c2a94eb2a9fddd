"""Runtimes that answer, one module each: *open* a bundle as a session.

A session module satisfies `SessionModule` and says in its ``ABOUT`` what others need to know of it; adding one is a file and a line in
`SESSIONS`. A module of somebody else's needs no line: who opens sessions takes a dictionary in its place. The reference,
`edgekit.sessions.torch`, is not among them: it opens a run, not a bundle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from edgekit.errors import MissingError, UsageError
from edgekit.sessions import (
    browser,
    browser_compat,
    coreml,
    coreml_reference,
    litert,
    onnxruntime,
    onnxruntime_cuda,
    onnxruntime_float,
    onnxruntime_rounded,
    openvino,
    tensorrt,
    tensorrt_rtx,
)
from edgekit.sessions import torch as reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit.sessions.about import About
    from edgekit.types import Bundle, Session


class Runtime(Protocol):
    """What is known of whatever answers, the reference too."""

    ABOUT: About


class SessionModule(Runtime, Protocol):
    """What a module in this package offers."""

    def open_session(self, bundle: Bundle, threads: int | None = None) -> Session:
        """Open `bundle`; `threads` None takes the runtime's own choice.

        Raises
        ------
        MissingError
            This machine can't run it; the message says what is missing.
        """
        ...


SESSIONS: dict[str, SessionModule] = {
    "onnxruntime": onnxruntime,
    "onnxruntime-rounded": onnxruntime_rounded,
    "onnxruntime-float": onnxruntime_float,
    "onnxruntime-cuda": onnxruntime_cuda,
    "openvino": openvino,
    "litert": litert,
    "browser": browser,
    "browser-compat": browser_compat,
    "coreml-reference": coreml_reference,
    "coreml": coreml,
    "tensorrt": tensorrt,
    "tensorrt-rtx": tensorrt_rtx,
}


REFERENCE = "torch"
"""What the others are compared with."""
RUNTIMES: dict[str, Runtime] = {REFERENCE: reference, **SESSIONS}


def open_session(name: str, bundle: Bundle, threads: int | None = None, modules: Mapping[str, SessionModule] = SESSIONS) -> Session:
    """Open `bundle` in the session `name`.

    Parameters
    ----------
    threads
        See `SessionModule`.
    modules
        The modules by name.

    Raises
    ------
    UsageError
        The bundle has no such session.
    MissingError
        This machine can't run it, or its module is not among `modules`.
    """
    offered = bundle.sessions
    if name not in offered:
        raise UsageError(f"this bundle has no session {name!r}", f"choose one of {', '.join(offered)}")
    if name not in modules:
        raise MissingError(f"no module here opens the session {name!r}", "open the bundle with the package that made it")
    return modules[name].open_session(bundle, threads)


def list_baselines(modules: Mapping[str, SessionModule] = SESSIONS) -> dict[str, str]:
    """Return by session the one that computes its 8 bits in float."""
    return {module.ABOUT.baseline_of: name for name, module in modules.items() if module.ABOUT.baseline_of is not None}


def list_by_processor(modules: Mapping[str, SessionModule] = SESSIONS) -> tuple[str, ...]:
    """Return the sessions whose 8-bit kernels the processor's instructions decide."""
    return tuple(name for name, module in modules.items() if module.ABOUT.by_processor)
