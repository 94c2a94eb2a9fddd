# /// script
# requires-python = ">=3.10"
# dependencies = ["cuda-bindings>=13", "numpy", "pillow", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs"]
# ///
"""Run this bundle's engine with TensorRT-RTX, without edgekit.

    python runner/run.py                                      check hashes, precisions and golden vectors, and measure
    python runner/run.py --ap ap.png --lateral lateral.png    answer for canvases: 8-bit gray, S x S, made as docs/canvas.md says
    python runner/run.py --pack canvases.npz --out FOLDER     write outputs.npz (for `edgekit verify --outputs`) and latency.json

The bundle has an engine for each compute capability that it was exported for; TensorRT-RTX finishes it for the GPU when it is loaded. An
engine that computes a layer wider than precisions.json promises, or misses the golden vectors, is refused before it answers. Exit code 0,
or 1 with a message.

TensorRT-RTX must be the version in manifest.json (provenance, versions); cuda-bindings must be of the driver's CUDA. cuda-python moves the
tensors rather than Polygraphy, because it lets the copies be timed apart from the engine.
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True  # the bundle stays as it is
sys.path.insert(0, str(Path(__file__).parent))

from bundle_runner import BUNDLE, Engine, parse_arguments, read_manifest, use_engine  # noqa: E402

WARMUP, REPEATS = 20, 200


def main(arguments=None):
    """Do what the command line asks."""
    manifest = read_manifest()
    asked = parse_arguments(__doc__, manifest, arguments=arguments)
    use_engine(ShippedEngine(manifest), asked)


class ShippedEngine(Engine):
    """The bundle's engine for the first GPU."""

    session, remedy = "tensorrt-rtx", "another driver"

    def __init__(self, manifest):
        try:
            import tensorrt_rtx_bindings
            from cuda.bindings import runtime
        except ImportError as error:
            sys.exit(f"error: {error}; pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs cuda-bindings")
        super().__init__(manifest, tensorrt_rtx_bindings, runtime, WARMUP, REPEATS)
        path = choose_engine(manifest["files"], self.gpu, f"{self.properties.major}.{self.properties.minor}")
        made_by = manifest["provenance"]["versions"].get("tensorrt-rtx-cu13-libs", "unknown")
        self.load(path, f"{path.name}, which version {made_by} compiled")


def choose_engine(files, gpu, capability):
    """Return the bundle's engine for a compute capability such as "8.6"."""
    name = f"engine-sm{capability.replace('.', '')}.trt"
    if name not in files:
        there = ", ".join(sorted(each for each in files if each.endswith(".trt")))
        sys.exit(f"error: the bundle has no engine for {gpu}, compute capability {capability}: it has {there}")
    return BUNDLE / name


if __name__ == "__main__":
    main()
