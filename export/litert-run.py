# /// script
# requires-python = ">=3.11"
# dependencies = ["ai-edge-litert>=2.1", "numpy", "pillow"]
# ///
"""Run this bundle on LiteRT, without edgekit.

    python runner/run.py                                      check every hash and the golden vectors, time one patient
    python runner/run.py --ap ap.png --lateral lateral.png    answer for canvases: 8-bit gray, S x S, made as docs/canvas.md says
    python runner/run.py --pack canvases.npz --out FOLDER     the first, then outputs.npz (for `edgekit verify --outputs`) and latency.json
    python runner/run.py ... --no-timing                      the same without timing and latency.json: an emulated processor is slow

The graph does the work: it finds, crops, classifies, combines and decides. No answer leaves before the golden vectors have passed in this
very runtime: once on this machine for films (the user's cache folder keeps that they did), always for a pack. Exit code 0, or 1 with a
message.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

sys.dont_write_bytecode = True  # the bundle stays as it is
sys.path.insert(0, str(Path(__file__).parent))

from bundle_runner import BUNDLE, CpuModel, count_cores, use_model  # noqa: E402


class LiteRtModel(CpuModel):
    """The bundle's graph on the CPU through XNNPACK, and nothing else: no other accelerator is tried."""

    session, remedy = "litert", "another version of ai-edge-litert"

    def load(self, threads):
        """Open the graph."""
        used = threads or count_cores()
        self._interpreter = Interpreter(str(BUNDLE / self.manifest["model"]), num_threads=used)
        self._interpreter.allocate_tensors()
        self._run = self._interpreter.get_signature_runner()
        self.names = list(self.manifest["tensors"]["outputs"])
        self.runtime = f"ai-edge-litert {version('ai-edge-litert')} XNNPACK, threads {used}"

    def run(self, inputs):
        """Map the graph's inputs to its outputs, both by name."""
        answer = self._run(**inputs)
        return {name: np.array(answer[name]) for name in self.names}


if __name__ == "__main__":
    use_model(LiteRtModel, __doc__)
