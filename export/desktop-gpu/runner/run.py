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

import argparse
import hashlib
import json
import os
import platform
import re
import sys
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from PIL import Image

BUNDLE = Path(__file__).resolve().parents[1]
SESSION = "tensorrt-rtx"
VIEWS = ("ap", "lateral")
DECISIONS = ("identified", "ambiguous", "unfamiliar", "no construct found", "films swapped")
KEPT = ("probabilities", "members", "boxes", "box_scores", "view_scores", "prediction_set", "unfamiliarity", "decision")
"""The outputs that a pack's answers hold: all but `heatmaps`."""
WARMUP, REPEATS = 20, 200
WIDTHS = ("int8", "fp16", "fp32")
TYPES = {"Int8": "int8", "Half": "fp16", "FP16": "fp16", "Float": "fp32", "FP32": "fp32"}
POINTWISE = ("kgen", "PointWise", "PointWiseV2", "Reformat", "NoOp", "signal", "wait")
"""Kinds of layers that go along with a convolution: they count where no other layer claims the node."""


def main(arguments=None):
    """Do what the command line asks."""
    asked = parse_arguments(arguments)
    manifest = read_manifest()
    engine = Engine(manifest)
    films = {view: vars(asked)[view] for view in VIEWS if vars(asked)[view]}
    patient = check_golden(engine, sys.stderr if films or asked.pack else sys.stdout)
    if asked.pack:
        answer_pack(engine, asked.pack, asked.out)
    elif films:
        print_answer(engine, {view: np.array(Image.open(path)) for view, path in films.items()})
    else:
        measure_speed(engine, patient)


def parse_arguments(arguments):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for view in VIEWS:
        parser.add_argument(f"--{view}", metavar="PNG", help="canvas of this film")
    parser.add_argument("--pack", type=Path, metavar="NPZ", help="canvases written by `edgekit verify --pack`")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the answers for --pack go")
    asked = parser.parse_args(arguments)
    if (asked.pack is None) != (asked.out is None):
        parser.error("--pack and --out belong together")
    if asked.pack and (asked.ap or asked.lateral):
        parser.error("give films or a pack")
    return asked


def read_manifest():
    """Return manifest.json, once every file of the bundle has the hash that stands in it."""
    text, seal, stated = (BUNDLE / "manifest.json").read_bytes().partition(b',\n  "manifest_sha256": "')
    if not seal or stated.decode() != hashlib.sha256(text + b"\n}\n").hexdigest() + '"\n}\n':
        sys.exit("error: manifest.json was changed: its sha256 is not the one it states")
    manifest = json.loads(text + b"\n}\n")
    for name, entry in manifest["files"].items():
        path = (BUNDLE / name).resolve()
        if not path.is_relative_to(BUNDLE):
            sys.exit(f"error: {name} leaves the bundle")
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            sys.exit(f"error: {name} is missing or was changed: its sha256 is not the one in the manifest")
    return manifest


def find_fallbacks(layers, promised):
    """Return where an engine computes wider than promised, one sentence a node.

    `layers` is "Layers" of the engine inspector's JSON, `promised` the precision by ONNX node.
    """
    claimed = {}
    for layer in layers:
        if not isinstance(layer, dict):
            return ["the engine tells only the names of its layers: it was not built with profiling verbosity DETAILED"]
        for node in re.findall(r"\[ONNX Layer: ([^\]]+)\]", layer.get("Metadata", "")) or layer["Name"].split(" + "):
            claimed.setdefault(node, []).append((layer, precision_of(layer)))
    faults = []
    for node, precision in promised.items():
        known = [(layer, width) for layer, width in claimed.get(node, []) if width]
        known = [each for each in known if each[0]["LayerType"] not in POINTWISE] or known
        if not known:
            faults.append(f"no layer of the engine says that it computes '{node}'")
            continue
        layer, width = min(known, key=lambda each: WIDTHS.index(each[1]))
        if WIDTHS.index(width) > WIDTHS.index(precision):
            faults.append(f"'{node}' is computed in {width}, not {precision} (layer '{layer['Name']}', {layer['LayerType']})")
    return faults


def precision_of(layer):
    """Return what a layer computes in: the wider of its data and its weights, each the narrowest of its tensors."""
    weights = [layer["Weights"].get("Type", "")] if "Weights" in layer else map(type_of, layer.get("Constants", []))
    sides = []
    for kinds in (map(type_of, layer.get("Inputs", [])), weights):
        found = [TYPES[kind] for kind in kinds if kind in TYPES]
        sides += [min(found, key=WIDTHS.index)] if found else []
    return max(sides, key=WIDTHS.index, default=None)


def type_of(tensor):
    """Return a tensor's type; TensorRT 10 gives type and layout in one field, 11 in two."""
    text = next((str(tensor[key]) for key in ("Datatype", "DataType", "Format/Datatype", "Format") if key in tensor), "")
    found = re.search(r"\b(Int8|Half|FP16|Float|FP32)\b", text)
    return found[1] if found else ""


def choose_engine(files, gpu, capability):
    """Return the bundle's engine for a compute capability such as "8.6"."""
    name = f"engine-sm{capability.replace('.', '')}.trt"
    if name not in files:
        there = ", ".join(sorted(each for each in files if each.endswith(".trt")))
        sys.exit(f"error: the bundle has no engine for {gpu}, compute capability {capability}: it has {there}")
    return BUNDLE / name


class Engine:
    """The bundle's engine for the first GPU, loaded, with a buffer there for each tensor."""

    def __init__(self, manifest):
        try:
            import tensorrt_rtx_bindings
            from cuda.bindings import runtime
        except ImportError as error:
            sys.exit(f"error: {error}; pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs cuda-bindings")
        self.cuda, self.library = runtime, tensorrt_rtx_bindings
        error, count = runtime.cudaGetDeviceCount()
        if error != runtime.cudaError_t.cudaSuccess or not count:
            sys.exit(f"error: there is no NVIDIA GPU that CUDA can use here ({error.name})")
        properties = self.call("cudaGetDeviceProperties", 0)
        self.gpu = properties.name.decode().rstrip("\0")
        self.runtime = f"tensorrt-rtx {self.library.__version__} on {self.gpu}"
        self.manifest = manifest
        path = choose_engine(manifest["files"], self.gpu, f"{properties.major}.{properties.minor}")
        started = time.perf_counter()
        self.size_mb = path.stat().st_size / 1e6
        logger = self.library.Logger(self.library.Logger.ERROR)
        engine = self.library.Runtime(logger).deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            made_by = manifest["provenance"]["versions"]["tensorrt-rtx-cu13-libs"]
            sys.exit(f"error: {self.runtime} does not load {path.name}, which version {made_by} compiled")
        self.load(engine)
        self.load_ms = 1000 * (time.perf_counter() - started)
        self.times_ms, self.engine_ms = [], []  # of the patients with both films

    def load(self, engine):
        """Refuse an engine that fell back; give the others a context and buffers."""
        promised = json.loads((BUNDLE / "precisions.json").read_bytes())
        inspector = engine.create_engine_inspector()
        layers = json.loads(inspector.get_engine_information(self.library.LayerInformationFormat.JSON))["Layers"]
        faults = find_fallbacks(layers, promised)
        if faults:
            sys.exit(f"error: the engine falls back in {len(faults)} of {len(promised)} layers:\n  " + "\n  ".join(faults[:10]))
        kinds = ", ".join(f"{number} in {precision}" for precision, number in sorted(Counter(promised.values()).items()))
        self.precisions = f"{len(promised)} convolutions and products of detector and members computed as promised: {kinds}"
        self.engine, self.context = engine, engine.create_execution_context()
        self.stream = self.call("cudaStreamCreate")
        self.events = [self.call("cudaEventCreate") for _ in range(2)]
        self.buffers, self.results = {}, {}
        for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
            host = np.zeros(tuple(engine.get_tensor_shape(name)), self.library.nptype(engine.get_tensor_dtype(name)))
            self.buffers[name] = int(self.call("cudaMalloc", host.nbytes))
            self.context.set_tensor_address(name, self.buffers[name])
            if engine.get_tensor_mode(name) == self.library.TensorIOMode.OUTPUT:
                self.results[name] = host

    def call(self, function, *arguments):
        """Call a function of the CUDA runtime and return its result."""
        error, *results = getattr(self.cuda, function)(*arguments)
        if error != self.cuda.cudaError_t.cudaSuccess:
            sys.exit(f"error: {function} failed: {error.name}")
        return results[0] if results else None

    def infer(self, canvases):
        """Map the canvases given, uint8 (S, S) by view, to the graph's outputs by name."""
        side = self.manifest["canvas"]["side"]
        inputs = {"present": np.array([view in canvases for view in VIEWS], np.float32)}
        for view in VIEWS:
            canvas = np.ascontiguousarray(canvases.get(view, np.zeros((side, side), np.uint8)))
            if canvas.dtype != np.uint8 or canvas.shape != (side, side):
                sys.exit(f"error: {view} is {canvas.dtype} {canvas.shape}, expected a canvas: 8-bit gray, {side} x {side} pixels")
            inputs[view] = canvas
        to_device, to_host = self.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice, self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        started = time.perf_counter()
        for name, host in inputs.items():
            self.call("cudaMemcpyAsync", self.buffers[name], host.ctypes.data, host.nbytes, to_device, self.stream)
        self.call("cudaEventRecord", self.events[0], self.stream)
        if not self.context.execute_async_v3(int(self.stream)):
            sys.exit(f"error: {self.runtime} could not run the engine")
        self.call("cudaEventRecord", self.events[1], self.stream)
        for name, host in self.results.items():
            self.call("cudaMemcpyAsync", host.ctypes.data, self.buffers[name], host.nbytes, to_host, self.stream)
        self.call("cudaStreamSynchronize", self.stream)
        if len(canvases) == len(VIEWS):
            self.times_ms.append(1000 * (time.perf_counter() - started))
            self.engine_ms.append(self.call("cudaEventElapsedTime", *self.events))
        return {name: host.copy() for name, host in self.results.items()}


def check_golden(engine, screen):
    """Run the golden vectors, print how far off each output is to `screen`, and return the canvases of a patient with both films.

    They take milliseconds, the engine's load takes seconds: nothing is remembered, no answer leaves without them.
    """
    golden = json.loads((BUNDLE / "golden" / "golden.json").read_bytes())
    errors = dict.fromkeys(golden["tolerance"], 0.0)
    for case in golden["cases"]:
        canvases = {view: np.array(Image.open(BUNDLE / "golden" / name)) for view, name in case["films"].items()}
        found = engine.infer(canvases)
        for name, values in case["outputs"].items():
            error = np.abs(np.asarray(values, np.float64) - found[name])
            if name == "boxes":  # without a construct the best cell is arbitrary, and so is its box
                error = error[np.array(case["outputs"]["box_scores"]) >= engine.manifest["thresholds"]["box"]]
            errors[name] = max(errors[name], np.nan_to_num(error, nan=np.inf).max(initial=0.0))
        if len(canvases) == len(VIEWS):
            patient = canvases
    wrong = [name for name, error in errors.items() if not error <= golden["tolerance"][name]]
    print(f"{engine.manifest['name']}, {engine.manifest['precision']}, {engine.runtime}", file=screen)
    print(f"{len(engine.manifest['files'])} files have the hashes of the manifest\n{engine.precisions}", file=screen)
    print(f"{'golden output':16} {'difference':>10} {'accepted':>10}", file=screen)
    for name, error in errors.items():
        print(f"{name:16} {error:10.1e} {golden['tolerance'][name]:10.1e}{'  WRONG' if name in wrong else ''}", file=screen)
    if wrong:
        sys.exit(f"error: {', '.join(wrong)} differ from the golden vectors: try another driver, or export the bundle again")
    engine.times_ms.clear()
    engine.engine_ms.clear()
    return patient


def measure_speed(engine, patient):
    """Time one patient and print it."""
    time_patient(engine, patient, REPEATS)
    speed = describe_speed(engine)
    print("one patient, two films: {p50_ms:.2f} ms with copies (p95 {p95_ms:.2f}), engine {stages[engine]:.2f} ms".format(**speed))


def print_answer(engine, canvases):
    """Print what the graph says of one patient."""
    answer = engine.infer(canvases)
    decision, brands = DECISIONS[answer["decision"][0]], engine.manifest["brands"]
    print(decision + (f": {brands[answer['probabilities'].argmax()]}" if decision == "identified" else ""))
    for brand, probability, within in zip(brands, answer["probabilities"], answer["prediction_set"]):  # noqa: B905
        print(f"{brand:24} {probability:.4f}{'  in the prediction set' if within else ''}")
    for view in canvases:
        row = VIEWS.index(view)
        print(f"{view}: score {answer['box_scores'][row]:.3f}, box {np.round(answer['boxes'][row], 1).tolist()} (canvas pixels)")
    print(engine.manifest["intended_use"])


def answer_pack(engine, path, out):
    """Answer for every patient of a pack, reading one at a time, and write outputs.npz and latency.json into `out`."""
    with np.load(path, allow_pickle=False) as pack:
        if pack["schema"] != 1 or str(pack["bundle"]) != engine.manifest["model_sha256"]:
            sys.exit(f"error: {path} was not packed for this bundle: pack it again with `edgekit verify BUNDLE STUDIES --pack`")
        rows = []
        for row, given in enumerate(pack["present"]):
            canvases = {view: pack[f"{view}_{row:06}"] for view, there in zip(VIEWS, given) if there}  # noqa: B905
            if not engine.times_ms and len(canvases) == len(VIEWS):
                time_patient(engine, canvases, 1)
            answer = engine.infer(canvases)
            rows.append({name: answer[name] for name in KEPT})
            print(f"\r{row + 1} of {len(pack['present'])} patients", end="", file=sys.stderr)
        print(file=sys.stderr)
        identity = {name: pack[name] for name in ("schema", "bundle", "pack")}
    if not engine.times_ms:
        sys.exit(f"error: {path} has no patient with two films to time")
    out.mkdir(parents=True, exist_ok=True)
    stacked = {name: np.stack([answer[name] for answer in rows]) for name in KEPT}
    np.savez_compressed(out / "outputs.npz", **identity, session=SESSION, runtime=engine.runtime, **stacked)
    origin = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),  # noqa: UP017  (Python 3.10)
        "bundle": engine.manifest["model_sha256"],
        "pack": str(identity["pack"]),
        "runtime": engine.runtime,
    }
    latency = {"device": describe_device(engine), "provenance": origin, "rows": [describe_speed(engine)]}
    (out / "latency.json").write_text(json.dumps(latency, indent=2) + "\n")
    print(f"wrote {out / 'outputs.npz'} and {out / 'latency.json'}: {len(rows)} patients, median {latency['rows'][0]['p50_ms']:.2f} ms")


def time_patient(engine, canvases, repeats):
    """Warm up, then keep `repeats` times of this patient alone."""
    for _ in range(WARMUP + repeats):
        engine.infer(canvases)
    del engine.times_ms[:-repeats], engine.engine_ms[:-repeats]


def describe_speed(engine):
    """Return the row `two-view` of latency.json: one patient with both films, from canvases to the answer, copies included.

    Stages: `engine` by the GPU's own clock, `copies` what is left: to the GPU, back, and starting it.
    """
    p50, p95, p99 = (float(value) for value in np.percentile(engine.times_ms, [50, 95, 99]))
    inside = float(np.median(engine.engine_ms))
    return {
        "name": "two-view",
        "session": SESSION,
        "precision": engine.manifest["precision"],
        "n": len(engine.times_ms),
        "warmup": WARMUP,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "load_ms": engine.load_ms,
        "peak_rss_mb": measure_peak_mb(),
        "size_mb": engine.size_mb,
        "stages": {"engine": inside, "copies": p50 - inside},
        "ratio": {},
    }


def measure_peak_mb():
    """Return the most host memory this process ever held, in MB (10^6 bytes); None on Windows, where Python does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def describe_device(engine):
    """Return what the figures belong to."""
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpu": engine.gpu,
        "os": platform.platform(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
