"""What the Python runners have in common. Export copies this file beside every ``runner/run.py``; it does without edgekit.

A runner opens the bundle's graph as a `Model` and leaves the rest to the functions here. Names of tensors, views, words and
tolerances come from ``manifest.json`` (``tensors``, ``task``). It runs from Python 3.10, which is JetPack 6's.
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
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from PIL import Image

BUNDLE = Path(__file__).resolve().parents[1]
DECISIONS = ("identified", "ambiguous", "unfamiliar", "no construct found", "films swapped")
"""Words for the values 0 to 4 of the graph's `decision`: for programs. Words for people are the manifest's."""
SHORT = ("ap", "lateral")
"""Views with an option of their own, where the bundle has them."""
COUNTS = {1: "one film", 2: "two films", 3: "three films"}
LARGEST = "heatmaps"
"""The output that outputs.npz does without."""
WIDTHS = ("int8", "fp16", "fp32")
TYPES = {"Int8": "int8", "Half": "fp16", "FP16": "fp16", "Float": "fp32", "FP32": "fp32"}
FEATURES = {
    "x86_64": ("sse4_1", "avx2", "avx_vnni", "avx512bw", "avx512_vnni", "amx_int8"),
    "aarch64": ("asimd", "asimddp", "i8mm"),
}
"""The instructions by which runtimes choose their 8-bit kernels, under Linux's names."""
WARMUP, REPEATS = 5, 100
POINTWISE = ("kgen", "PointWise", "PointWiseV2", "Reformat", "NoOp", "signal", "wait")
"""Kinds of layers that go along with a convolution: they count where no other layer claims the node."""


# -- the bundle ------------------------------------------------------------------------------------------------------------------


def read_manifest():
    """Return manifest.json, once every file of the bundle has the hash that stands in it."""
    text, _, seal = (BUNDLE / "manifest.json").read_bytes().partition(b',\n  "manifest_sha256": "')
    text += b"\n}\n"
    if seal != hashlib.sha256(text).hexdigest().encode() + b'"\n}\n':
        sys.exit("error: manifest.json was changed: its sha256 is not the one it states")
    manifest = json.loads(text)
    for name, entry in manifest["files"].items():
        path = (BUNDLE / name).resolve()
        if not path.is_relative_to(BUNDLE):
            sys.exit(f"error: {name} leaves the bundle")
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            sys.exit(f"error: {name} is missing or was changed: its sha256 is not the one in the manifest")
    return manifest


def list_views(manifest):
    """Return the names of the views, in the order of `present`."""
    return manifest["task"]["views"]


def list_outputs(manifest):
    """Return the names of the graph's outputs."""
    return list(manifest["tensors"]["outputs"])


def parse_arguments(description, manifest, add=None, arguments=None):
    """Read the command line; `films` are the paths given, by view. `add` gets the parser, for what only one runner takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    views = list_views(manifest)
    parser.add_argument("--film", action="append", default=[], metavar="VIEW=PNG", help=f"canvas of a film: {', '.join(views)}")
    for view in [view for view in SHORT if view in views]:
        parser.add_argument(f"--{view}", metavar="PNG", help=f"the same as --film {view}=PNG")
    parser.add_argument("--pack", type=Path, metavar="NPZ", help="canvases written by `edgekit verify --pack`")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the answers for --pack go")
    if add is not None:
        add(parser)
    asked = parser.parse_args(arguments)
    asked.films = dict(film.partition("=")[::2] for film in asked.film)
    asked.films.update({view: vars(asked)[view] for view in SHORT if vars(asked).get(view)})
    unknown = [view for view, path in asked.films.items() if view not in views or not path]
    if unknown:
        parser.error(f"--film {', '.join(unknown)}: expected VIEW=PNG, VIEW one of {', '.join(views)}")
    if (asked.pack is None) != (asked.out is None) or (asked.films and asked.pack):
        parser.error("give films, or --pack and --out, or nothing")
    return asked


def read_canvases(films):
    """Return the canvases, uint8 (S, S) by view."""
    return {view: np.array(Image.open(path)) for view, path in films.items()}


# -- answering -------------------------------------------------------------------------------------------------------------------


class Model:
    """The bundle's graph, loaded. A runner's own class says how.

    `session` is what edgekit calls it, `runtime` its name and version, `remedy` what to try when it misses the golden vectors, and `notes`
    are lines to be said of it.
    """

    session = runtime = remedy = ""
    notes = ()

    def __init__(self, manifest):
        self.manifest = manifest

    def run(self, inputs):
        """Map the graph's inputs to its outputs, both by name."""
        raise NotImplementedError

    def infer(self, canvases):
        """Map the canvases given, uint8 (S, S) by view, to the graph's outputs by name."""
        return self.run(make_inputs(self.manifest, canvases))

    def warm_up(self, canvases):
        """Get ready to be timed on these canvases, where that is done on the way."""

    def make_up(self, canvases):
        """Be timed on these canvases, where a pack held no patient with all films."""

    def describe_answers(self):
        """Return what outputs.npz tells beside the session and the runtime."""
        return {}

    def describe_speed(self):
        """Return the row of latency.json; None where nothing was timed."""
        return

    def describe_device(self):
        """Return what the figures belong to."""
        return {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "os": platform.platform(),
            "python": platform.python_version(),
        }

    def describe_origin(self):
        """Return what latency.json tells of the runtime beside its name."""
        return {}


def make_inputs(manifest, canvases):
    """Return the graph's inputs: zeros where a film is missing."""
    side, views, inputs = manifest["canvas"]["side"], list_views(manifest), {}
    for name in manifest["tensors"]["inputs"]:
        if name in views:
            canvas = np.ascontiguousarray(canvases.get(name, np.zeros((side, side), np.uint8)))
            if canvas.dtype != np.uint8 or canvas.shape != (side, side):
                sys.exit(f"error: {name} is {canvas.dtype} {canvas.shape}, expected a canvas: 8-bit gray, {side} x {side} pixels")
            inputs[name] = canvas[None, None]
        else:
            inputs[name] = np.array([view in canvases for view in views], np.float32)
    return inputs


def check_golden(model, screen):
    """Run the golden vectors, print how far off each output is to `screen`, and return the canvases of a patient with all films."""
    golden = json.loads((BUNDLE / "golden" / "golden.json").read_bytes())
    compared = {name: row for name, row in model.manifest["tensors"]["outputs"].items() if row["tolerance"] is not None}
    errors = dict.fromkeys(compared, 0.0)
    for case in golden["cases"]:
        canvases = read_canvases({view: BUNDLE / "golden" / name for view, name in case["films"].items()})
        found, expected = model.infer(canvases), case["outputs"]
        for name, row in compared.items():
            error = np.abs(found[name] - np.array(expected[name], np.float64))
            if row["of_found"]:  # where nothing is on a film, its row is arbitrary
                error = error[np.array(expected["found"]) > 0]
            errors[name] = max(errors[name], np.nan_to_num(error, nan=np.inf).max(initial=0.0))
        if len(canvases) == len(list_views(model.manifest)):
            patient = canvases
    wrong = [name for name, row in compared.items() if not errors[name] <= row["tolerance"]]
    print("\n".join([f"{model.manifest['name']}, {model.manifest['precision']}, {model.runtime}", *model.notes]), file=screen)
    print(f"{'golden output':16}{'difference':>12}{'accepted':>12}", file=screen)
    for name, row in compared.items():
        print(f"{name:16}{errors[name]:12.1e}{row['tolerance']:12.1e}{'  WRONG' if name in wrong else ''}", file=screen)
    if wrong:
        sys.exit(
            f"error: too far from the golden vectors: {', '.join(wrong)}; this machine's answers are not the bundle's: "
            f"try {model.remedy}, or export the bundle again"
        )
    return patient


def print_answer(model, canvases):
    """Print what the graph says of one patient."""
    answer = model.infer(canvases)
    decision, brands, probabilities = DECISIONS[answer["decision"][0]], model.manifest["brands"], answer["probabilities"]
    shown = f"no {model.manifest['task']['found']} found" if decision == DECISIONS[3] else decision
    print(f"{decision}: {brands[probabilities.argmax()]}" if decision == "identified" else shown)
    for index in np.argsort(-probabilities):
        print(f"{probabilities[index]:8.4f} {'*' if answer['prediction_set'][index] else ' '} {brands[index]}")
    print(f"         * can't be excluded at {model.manifest['thresholds']['coverage']:.0%} coverage")
    for row, view in enumerate(list_views(model.manifest)):
        if view in canvases and model.manifest["task"]["locate"]:
            box = "box " + " ".join(f"{edge:.1f}" for edge in answer["boxes"][row]) + " (canvas pixels)"
            found = box if answer["found"][row] else f"no {model.manifest['task']['found']} found"
            print(f"{view}: {found}, score {answer['box_scores'][row]:.3f}")
    print(model.manifest["intended_use"])


def answer_pack(model, path, out, patient):
    """Answer for every patient of a pack, read one at a time, and write outputs.npz into the folder `out`; latency.json if it was timed.

    `patient` has all films.
    """
    views, names = list_views(model.manifest), [name for name in list_outputs(model.manifest) if name != LARGEST]
    with np.load(path, allow_pickle=False) as pack:
        if pack["schema"] != 1 or str(pack["bundle"]) != model.manifest["model_sha256"]:
            sys.exit(f"error: {path} was packed for another bundle; pack it again: edgekit verify BUNDLE STUDIES --pack {path}")
        answers = []
        for row, present in enumerate(pack["present"]):
            canvases = {view: pack[f"{view}_{row:06}"] for view, given in zip(views, present, strict=True) if given}
            model.warm_up(canvases)
            answer = model.infer(canvases)
            answers.append({name: answer[name] for name in names})
            print(f"\r{row + 1} patients", end="", file=sys.stderr)
        print(file=sys.stderr)
        copied = {name: pack[name] for name in ("schema", "bundle", "pack")}
    out.mkdir(parents=True, exist_ok=True)
    stacked = {name: np.stack([answer[name] for answer in answers]) for name in names}
    labels = {"session": model.session, "runtime": model.runtime, **model.describe_answers()}
    np.savez_compressed(out / "outputs.npz", **copied, **labels, **stacked)
    print(f"wrote {out / 'outputs.npz'}: {len(answers)} patients")
    model.make_up(patient)
    speed = model.describe_speed()
    if speed is None:
        print(f"no {out / 'latency.json'}: nothing was timed")
        return
    provenance = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),  # noqa: UP017  (Python 3.10)
        "bundle": str(copied["bundle"]),
        "pack": str(copied["pack"]),
        "runtime": model.runtime,
        **model.describe_origin(),
    }
    latency = {"device": model.describe_device(), "provenance": provenance, "rows": [speed]}
    (out / "latency.json").write_text(json.dumps(latency, indent=2) + "\n")
    print(f"wrote {out / 'latency.json'}: median {speed['p50_ms']:.2f} ms")


def count_films(canvases):
    """Return how many films a patient has, in words."""
    return COUNTS[len(canvases)]


def describe_times(model, times_ms, warmup, load_ms, size_mb, stages):
    """Return the row `two-view` of latency.json: one patient with all films, from canvases to the answer."""
    return {
        "name": "two-view",
        "session": model.session,
        "precision": model.manifest["precision"],
        "n": len(times_ms),
        "warmup": warmup,
        **{f"p{share}_ms": float(np.percentile(times_ms, share)) for share in (50, 95, 99)},
        "load_ms": load_ms,
        "peak_rss_mb": measure_peak_mb(),
        "size_mb": size_mb,
        "stages": stages,
        "ratio": {},
    }


def measure_peak_mb():
    """Return the most memory this process ever held, in MB (10^6 bytes); None on Windows, where Python does not tell."""
    if peak := read_system("/proc/self/status", "VmHWM"):
        return int(peak.split()[0]) * 1024 / 1e6
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def read_system(path, key):
    """Return what stands behind `key` in a file of Linux's /proc; empty where there is none."""
    lines = Path(path).read_text().splitlines() if Path(path).exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


# -- what is remembered of this machine ------------------------------------------------------------------------------------------


def is_remembered(fact):
    """Tell whether a file in the user's cache folder says exactly this; where there is none to be read, it does not."""
    with suppress(OSError, RuntimeError):  # RuntimeError: the user has no home folder
        return find_memory(fact).read_bytes() == fact.encode()
    return False


def remember(fact):
    """Keep a fact in the user's cache folder, where it can be written: put in place whole, for others may do the same now."""
    with suppress(OSError, RuntimeError):
        path = find_memory(fact)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_bytes(fact.encode())
        partial.replace(path)


def find_memory(fact):
    """Return the file of a fact, named by its hash: where edgekit keeps its own."""
    usual = {"win32": "~/AppData/Local", "darwin": "~/Library/Caches"}.get(sys.platform, "~/.cache")
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = chosen if chosen.is_absolute() else Path(usual).expanduser()
    return folder / "edgekit" / "remembered" / f"{hashlib.sha256(fact.encode()).hexdigest()}.json"


# -- runtimes on the CPU ---------------------------------------------------------------------------------------------------------


class CpuModel(Model):
    """The bundle's graph on the CPU. A runner's own class says how it is loaded and run; `threads` 0 is one a core."""

    def __init__(self, manifest, threads):
        super().__init__(manifest)
        self.threads, self.speed = threads, None
        started = time.perf_counter()
        self.load(threads)
        self.load_ms = 1000 * (time.perf_counter() - started)

    def load(self, threads):
        """Open the graph, and say in `runtime` what runs it."""
        raise NotImplementedError

    def measure(self, patient):
        """Time one patient with all films."""
        times_ms = []
        for _ in range(WARMUP + REPEATS):
            started = time.perf_counter()
            self.infer(patient)
            times_ms.append(1000 * (time.perf_counter() - started))
        size_mb = (BUNDLE / self.manifest["model"]).stat().st_size / 1e6
        self.speed = describe_times(self, times_ms[WARMUP:], WARMUP, self.load_ms, size_mb, {})

    def describe_speed(self):
        """Return the row of latency.json; None where it was not timed."""
        return self.speed

    def describe_origin(self):
        """Return the threads beside the runtime's name."""
        return {"threads": self.threads or None}

    def describe_answers(self):
        """Return the processor that the answers belong to; no instructions where the system is not Linux."""
        machine = platform.machine()
        flags = (read_system("/proc/cpuinfo", "flags") or read_system("/proc/cpuinfo", "Features")).split()
        features = [name for name in FEATURES.get(machine, ()) if name in flags]
        cpu = {"name": self.describe_device()["cpu"], "architecture": machine, "features": features, "threads": self.threads or None}
        return {"cpu": json.dumps({**cpu, "emulated": None})}

    def describe_device(self):
        """Return what the figures belong to: processor, cores, system."""
        cpu = read_system("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
        return {**super().describe_device(), "cpu": cpu, "cores": count_cores()}

    def describe_circumstances(self):
        """Return all that decides whether the golden vectors pass, as the text to be remembered."""
        multiarray = (getattr(np, "_core", None) or np.core)._multiarray_umath  # np.core: before numpy 2
        fact = {
            "passed": "golden vectors, runner",
            "manifest": hashlib.sha256((BUNDLE / "manifest.json").read_bytes()).hexdigest(),  # it holds the hashes of all other files
            "runtime": self.runtime,
            "system": platform.system(),
            "machine": platform.machine(),
            "features": read_system("/proc/cpuinfo", "flags") or read_system("/proc/cpuinfo", "Features"),
            # numpy asks the processor and not the system: under qemu-user the system tells of the machine that emulates.
            "features_of_numpy": sorted(name for name, has in multiarray.__cpu_features__.items() if has),
        }
        return json.dumps(fact, indent=1, sort_keys=True) + "\n"


def use_model(kind, description):
    """Do what the command line asks for, with a class of models."""
    manifest = read_manifest()
    asked = parse_arguments(description, manifest, add_cpu_options)
    model = kind(manifest, asked.threads)
    if asked.films:
        fact = model.describe_circumstances()
        if not is_remembered(fact):
            check_golden(model, sys.stderr)
            remember(fact)
        print_answer(model, read_canvases(asked.films))
        return
    patient = check_golden(model, sys.stdout)
    if not asked.no_timing:
        model.measure(patient)
        print(f"one patient, {count_films(patient)}: median {model.speed['p50_ms']:.1f} ms, loaded in {model.load_ms:.0f} ms")
    if asked.pack:
        answer_pack(model, asked.pack, asked.out, patient)


def add_cpu_options(parser):
    """Add what only runners on the CPU take."""
    parser.add_argument("--threads", type=int, default=0, help="threads within an operator (default: one a core)")
    parser.add_argument("--no-timing", action="store_true", help="measure no time: golden vectors and answers alone")


def count_cores():
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


# -- engines of TensorRT and TensorRT-RTX ----------------------------------------------------------------------------------------


class Engine(Model):
    """An engine on the first GPU, with a buffer there for each tensor.

    cuda-python moves the tensors rather than Polygraphy, because it lets the copies be timed apart from the engine.
    """

    def __init__(self, manifest, library, cuda, warmup, repeats):
        super().__init__(manifest)
        self.cuda, self.library, self.warmup, self.repeats = cuda, library, warmup, repeats
        error, count = cuda.cudaGetDeviceCount()
        if error != cuda.cudaError_t.cudaSuccess or not count:
            sys.exit(f"error: there is no NVIDIA GPU that CUDA can use here ({error.name})")
        self.properties = self.call("cudaGetDeviceProperties", 0)
        self.gpu = self.properties.name.decode().rstrip("\0")
        self.runtime = f"{self.session} {library.__version__} on {self.gpu}"
        self.times_ms, self.engine_ms = [], []  # of the patients with all films

    def load(self, path, refused):
        """Load an engine's file; `refused` is what to say where the library does not take it."""
        started = time.perf_counter()
        self.size_mb = path.stat().st_size / 1e6
        logger = self.library.Logger(self.library.Logger.ERROR)
        engine = self.library.Runtime(logger).deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            sys.exit(f"error: {self.runtime} does not load {refused}")
        self.take(engine)
        self.load_ms = 1000 * (time.perf_counter() - started)

    def take(self, engine):
        """Refuse an engine that fell back; give the others a context and buffers."""
        promised = json.loads((BUNDLE / "precisions.json").read_bytes())
        inspector = engine.create_engine_inspector()
        layers = json.loads(inspector.get_engine_information(self.library.LayerInformationFormat.JSON))["Layers"]
        faults = find_fallbacks(layers, promised)
        if faults:
            sys.exit(f"error: the engine falls back in {len(faults)} of {len(promised)} layers:\n  " + "\n  ".join(faults[:10]))
        kinds = ", ".join(f"{number} in {precision}" for precision, number in sorted(Counter(promised.values()).items()))
        self.notes = (
            f"{len(self.manifest['files'])} files have the hashes of the manifest",
            f"{len(promised)} convolutions and products of detector and members computed as promised: {kinds}",
        )
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

    def run(self, inputs):
        """Copy the inputs to the GPU, run the engine, and copy the outputs back; the time of a patient with all films is kept."""
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
        if all(host.all() for host in inputs.values() if host.ndim == 1):
            self.times_ms.append(1000 * (time.perf_counter() - started))
            self.engine_ms.append(self.call("cudaEventElapsedTime", *self.events))
        return {name: host.copy() for name, host in self.results.items()}

    def forget_times(self):
        """Begin to time anew."""
        self.times_ms.clear()
        self.engine_ms.clear()

    def warm_up(self, canvases):
        """Time the first patient with all films after as many runs as are not counted."""
        if not self.times_ms and len(canvases) == len(list_views(self.manifest)):
            self.time_patient(canvases, 1)

    def make_up(self, canvases):
        """Time these canvases where no patient had all films."""
        if not self.times_ms:
            self.time_patient(canvases, self.repeats)

    def time_patient(self, canvases, repeats):
        """Warm up, then keep `repeats` times of this patient alone."""
        for _ in range(self.warmup + repeats):
            self.infer(canvases)
        del self.times_ms[:-repeats], self.engine_ms[:-repeats]

    def describe_speed(self):
        """Return the row of latency.json, copies included; None where no patient had all films.

        Stages: `engine` by the GPU's own clock, `copies` what is left: to the GPU, back, and starting it.
        """
        if not self.times_ms:
            return None
        inside = float(np.median(self.engine_ms))
        stages = {"engine": inside, "copies": float(np.median(self.times_ms)) - inside}
        return describe_times(self, self.times_ms, self.warmup, self.load_ms, self.size_mb, stages)

    def describe_device(self):
        """Return what the figures belong to."""
        model = Path("/proc/device-tree/model")  # a Jetson's board
        described = super().describe_device()
        return {**described, **({"cpu": model.read_text().rstrip("\0")} if model.exists() else {}), "gpu": self.gpu}


def use_engine(engine, asked):
    """Do what the command line asks of an engine.

    The golden vectors take milliseconds, the engine's load takes seconds: nothing is remembered, no answer leaves without them.
    """
    patient = check_golden(engine, sys.stderr if asked.films or asked.pack else sys.stdout)
    engine.forget_times()
    if asked.pack:
        answer_pack(engine, asked.pack, asked.out, patient)
    elif asked.films:
        print_answer(engine, read_canvases(asked.films))
    else:
        engine.time_patient(patient, engine.repeats)
        speed = engine.describe_speed()
        timed = "{p50_ms:.2f} ms with copies (p95 {p95_ms:.2f}), engine {stages[engine]:.2f} ms".format(**speed)
        print(f"one patient, {count_films(patient)}: {timed}")


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
