"""What people would use instead, written as they would write it: the same films, the same trained weights.

Every peer comes in the shape that its user would choose (*usual*: a detector's input of `USUAL_SIDE`, the members of ``--b0-run``), and on
*equal footing* (*equal*: our detector's input side, the members of ``--run``). A peer's module has two functions::

    prepare(setup)              make its files once: exports, quantization
    open_peer(setup, threads)   open them: a context manager with ``infer(inputs) -> {"probabilities": float32 (K,)}``

Adding one is a file and its lines in `PEERS`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.setup import Setup


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to answer.

    Attributes
    ----------
    module
        In this package.
    footing
        ``usual`` or ``equal``; see the package's docstring.
    precision
        Of the networks, and of what stays float where that is said.
    what
        What its user wrote, one sentence.
    options
        Of the module's `open_peer`.
    in_browser
        Whether a page of a browser answers: it takes the suite's threads for browsers and is slowed down with them.
    """

    module: str
    footing: Literal["usual", "equal"]
    precision: str
    what: str
    options: tuple[tuple[str, Any], ...] = ()
    in_browser: bool = False

    def prepare(self, setup: Setup) -> None:
        """Make the peer's files, where they are not there yet."""
        importlib.import_module(f"peers.{self.module}").prepare(setup)

    def opener(self, setup: Setup, threads: int | None) -> Callable[[], Any]:
        """Return what opens the peer, to be called in its process."""
        return partial(_open, self.module, setup, threads, self.options)


def _open(module: str, setup: Setup, threads: int | None, options: tuple[tuple[str, Any], ...]) -> Any:
    return importlib.import_module(f"peers.{module}").open_peer(setup, threads, **dict(options))


USUAL_SIDE = 640
"""Side of the detector's input in pixels that ultralytics takes when it is told nothing, and that the study trained with."""

EAGER = "YOLO.predict, Pillow crops, timm members in torch eager, numpy ensemble"
ONNX = "ultralytics' own ONNX export and predictor, Pillow crops, members exported one by one to onnxruntime, numpy ensemble"
OPENVINO = "ultralytics' own OpenVINO int8 export and predictor, Pillow crops, members quantized by NNCF, numpy ensemble"
LITERT = "ultralytics' own LiteRT export and members converted one by one by litert_torch, in LiteRT.js; glue in the page's JavaScript"
GRAPH = "our one float graph, quantized by NNCF for OpenVINO"

PEERS = {
    "eager-usual": Peer("eager", "usual", "fp32", f"{EAGER}; one film a call, which is faster at that size", (("batch", 1),)),
    "eager-equal": Peer("eager", "equal", "fp32", f"{EAGER}; both films in one call, which is faster at that size", (("batch", 2),)),
    "ultralytics-onnx-usual": Peer("ultralytics_onnx", "usual", "fp32", ONNX),
    "ultralytics-onnx-equal": Peer("ultralytics_onnx", "equal", "fp32", ONNX),
    "openvino-usual": Peer("openvino_int8", "usual", "int8, rest as OpenVINO chooses", OPENVINO, (("hint", None),)),
    "openvino-equal": Peer("openvino_int8", "equal", "int8, rest f32", OPENVINO, (("hint", "f32"),)),
    "openvino-equal-bf16": Peer("openvino_int8", "equal", "int8, rest bf16", OPENVINO, (("hint", "bf16"),)),
    "openvino-graph": Peer("openvino_graph", "equal", "int8, rest f32", GRAPH, (("hint", "f32"),)),
    "openvino-graph-bf16": Peer("openvino_graph", "equal", "int8, rest bf16", GRAPH, (("hint", "bf16"),)),
    "litertjs-equal": Peer("litertjs", "equal", "fp32", LITERT, in_browser=True),
    "torch-compile": Peer("compiled", "equal", "fp32", "our pipeline in torch.compile"),
}
