# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "onnxruntime>=1.28", "pillow"]
# ///
"""Run this bundle on onnxruntime, without edgekit.

    python runner/run.py                                      check every hash and the golden vectors, time one patient
    python runner/run.py --ap ap.png --lateral lateral.png    answer for canvases: 8-bit gray, S x S, made as docs/canvas.md says
    python runner/run.py --pack canvases.npz --out FOLDER     the first, then outputs.npz (for `edgekit verify --outputs`) and latency.json
    python runner/run.py ... --no-timing                      the same without timing and latency.json: an emulated processor is slow

The graph does the work: it finds, crops, classifies, combines and decides. No answer leaves before the golden vectors have passed in this
very runtime: once on this machine for films (the user's cache folder keeps that they did), always for a pack. Exit code 0, or 1 with a
message.
"""

import sys
from pathlib import Path

import onnxruntime

sys.dont_write_bytecode = True  # the bundle stays as it is
sys.path.insert(0, str(Path(__file__).parent))

from bundle_runner import BUNDLE, CpuModel, use_model  # noqa: E402


class OnnxModel(CpuModel):
    """The bundle's graph on the CPU, and nothing else: no other provider is tried."""

    session, remedy = "onnxruntime", "another version of onnxruntime"

    def load(self, threads):
        """Open the graph."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(BUNDLE / self.manifest["model"], options, providers=["CPUExecutionProvider"])
        self.names = list(self.manifest["tensors"]["outputs"])
        self.runtime = f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider, threads {threads or 'one a core'}"

    def run(self, inputs):
        """Map the graph's inputs to its outputs, both by name."""
        return dict(zip(self.names, self._session.run(self.names, inputs), strict=True))


if __name__ == "__main__":
    use_model(OnnxModel, __doc__)
