# /// script
# requires-python = ">=3.10"
# dependencies = ["cuda-bindings>=12.6.1", "numpy", "pillow"]
# ///
"""Build this bundle's engine with TensorRT, inspect it, and run it, without edgekit.

    python runner/run.py                                      check hashes, precisions and golden vectors, and measure
    python runner/run.py --ap ap.png --lateral lateral.png    answer for canvases: 8-bit gray, S x S, made as docs/canvas.md says
    python runner/run.py --pack canvases.npz --out FOLDER     write outputs.npz (for `edgekit verify --outputs`) and latency.json

The engine is built once for this GPU and version of TensorRT (10.3 or later) and kept in --cache. An engine that computes a layer wider
than precisions.json promises, or misses the golden vectors, is refused before it answers. Exit code 0, or 1 with a message.

TensorRT comes with JetPack or from NVIDIA, not from the package index. cuda-python moves the tensors rather than Polygraphy, because it
lets the copies be timed apart from the engine. cuda-bindings must be of the driver's CUDA: 12.x on JetPack 6.
"""

import hashlib
import os
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # the bundle stays as it is
sys.path.insert(0, str(Path(__file__).parent))

from bundle_runner import BUNDLE, Engine, parse_arguments, read_manifest, use_engine  # noqa: E402

WARMUP, REPEATS = 20, 200


def main(arguments=None):
    """Do what the command line asks."""
    manifest = read_manifest()
    asked = parse_arguments(__doc__, manifest, add_options, arguments)
    use_engine(BuiltEngine(manifest, asked.cache), asked)


def add_options(parser):
    """Add what only this runner takes."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--cache", type=Path, default=home / "edgekit", metavar="FOLDER", help="where engines are kept (%(default)s)")


class BuiltEngine(Engine):
    """The bundle's graph as an engine that TensorRT builds once for this GPU."""

    session, remedy = "tensorrt", "another version of TensorRT"

    def __init__(self, manifest, cache):
        try:
            import tensorrt
            from cuda.bindings import runtime
        except ImportError as error:
            sys.exit(f"error: {error}; TensorRT comes with JetPack or from NVIDIA, cuda-python from `pip install cuda-bindings`")
        super().__init__(manifest, tensorrt, runtime, WARMUP, REPEATS)
        path = cache / (hashlib.sha256(f"{manifest['model_sha256']} {self.runtime}".encode()).hexdigest()[:32] + ".engine")
        if not path.is_file():
            print(f"building an engine for {self.gpu}: this takes minutes, once", file=sys.stderr)
            built = self.build((BUNDLE / manifest["model"]).read_bytes())
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_bytes(built)
            partial.replace(path)
        self.load(path, f"{path}: delete it")

    def build(self, model):
        """Return an ONNX file's engine for this GPU."""
        trt = self.library
        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))  # 11 always is; 10 must be told
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(model):
            sys.exit(f"error: {self.runtime}: {'; '.join(parser.get_error(index).desc() for index in range(parser.num_errors))}")
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # without it the engine does not tell its layers' types
        config.clear_flag(trt.BuilderFlag.TF32)  # float32 is float32
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            sys.exit(f"error: {self.runtime} can't build the engine: its reasons are above")
        return engine


if __name__ == "__main__":
    main()
