"""Runtimes that answer, one module each: *open* a bundle as a session.

A session module satisfies `SessionModule`; adding one is a file and a line in `SESSIONS`. The reference, `edgekit.sessions.torch`, is not
among them: it opens a run, not a bundle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from edgekit.errors import UsageError
from edgekit.sessions import (
    browser,
    coreml,
    coreml_reference,
    onnxruntime,
    onnxruntime_cuda,
    onnxruntime_float,
    onnxruntime_rounded,
    openvino,
    tensorrt,
    tensorrt_rtx,
)

if TYPE_CHECKING:
    from edgekit.types import Bundle, Session


class SessionModule(Protocol):
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
    "browser": browser,
    "coreml-reference": coreml_reference,
    "coreml": coreml,
    "tensorrt": tensorrt,
    "tensorrt-rtx": tensorrt_rtx,
}


def open_session(name: str, bundle: Bundle, threads: int | None = None) -> Session:
    """Open `bundle` in the session `name`.

    Raises
    ------
    UsageError
        The bundle has no such session.
    MissingError
        This machine can't run it.
    """
    offered = bundle.sessions
    if name not in offered:
        raise UsageError(f"this bundle has no session {name!r}", f"choose one of {', '.join(offered)}")
    return SESSIONS[name].open_session(bundle, threads)
