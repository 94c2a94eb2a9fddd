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

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

BUNDLE = Path(__file__).resolve().parents[1]
VIEWS = ("ap", "lateral")
DECISIONS = ("identified", "ambiguous", "unfamiliar", "no construct found", "films swapped")
SENT = ("probabilities", "members", "boxes", "box_scores", "view_scores", "prediction_set", "unfamiliarity", "decision")
"""The outputs that outputs.npz holds: all but `heatmaps`."""
FEATURES = {
    "x86_64": ("sse4_1", "avx2", "avx_vnni", "avx512bw", "avx512_vnni", "amx_int8"),
    "aarch64": ("asimd", "asimddp", "i8mm"),
}
"""The instructions by which onnxruntime chooses its 8-bit kernels, under Linux's names."""
WARMUP, REPEATS = 5, 100


def main():
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for view in VIEWS:
        parser.add_argument(f"--{view}", type=Path, metavar="PNG", help="canvas of this film")
    parser.add_argument("--pack", type=Path, metavar="NPZ", help="canvases written by `edgekit verify --pack`")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the answers for --pack go")
    parser.add_argument("--threads", type=int, default=0, help="threads within an operator (default: one a core)")
    parser.add_argument("--no-timing", action="store_true", help="measure no time: golden vectors and answers alone")
    asked = parser.parse_args()
    films = {view: path for view in VIEWS if (path := vars(asked)[view])}
    if (asked.pack is None) != (asked.out is None) or (films and asked.pack):
        parser.error("give films, or --pack and --out, or nothing")
    model = Model(read_manifest(), asked.threads)
    if films:
        fact = describe_circumstances(model)
        if not is_remembered(fact):
            check_golden(model, sys.stderr)
            remember(fact)
        print_answer(model, {view: np.array(Image.open(path)) for view, path in films.items()})
        return
    patient = check_golden(model, sys.stdout)
    speed = None if asked.no_timing else measure_speed(model, patient)
    if speed:
        print(f"one patient, two films: median {speed['p50_ms']:.1f} ms, loaded in {speed['load_ms']:.0f} ms")
    if asked.pack:
        answer_pack(model, asked.pack, asked.out, speed)


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


class Model:
    """The bundle's graph on the CPU, and nothing else: no other provider is tried."""

    def __init__(self, manifest, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        started = time.perf_counter()
        self._session = onnxruntime.InferenceSession(BUNDLE / manifest["model"], options, providers=["CPUExecutionProvider"])
        self.load_ms = 1000 * (time.perf_counter() - started)
        self.names = [output.name for output in self._session.get_outputs()]
        self.runtime = f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider, threads {threads or 'one a core'}"
        self.manifest, self.threads = manifest, threads

    def infer(self, canvases):
        """Map the canvases given, uint8 (S, S) by view, to the graph's outputs by name."""
        side = self.manifest["canvas"]["side"]
        inputs = {"present": np.array([view in canvases for view in VIEWS], np.float32)}
        for view in VIEWS:
            canvas = canvases.get(view, np.zeros((side, side), np.uint8))
            if canvas.dtype != np.uint8 or canvas.shape != (side, side):
                sys.exit(f"error: {view} is {canvas.dtype} {canvas.shape}, expected a canvas: 8-bit gray, {side} x {side} pixels")
            inputs[view] = canvas[None, None]
        return dict(zip(self.names, self._session.run(self.names, inputs), strict=True))


def check_golden(model, screen):
    """Run the golden vectors, print how far off each output is to `screen`, and return the canvases of a patient with both films."""
    golden = json.loads((BUNDLE / "golden" / "golden.json").read_bytes())
    tolerance = golden["tolerance"]
    errors = dict.fromkeys(model.names, 0.0)
    for case in golden["cases"]:
        canvases = {view: np.array(Image.open(BUNDLE / "golden" / name)) for view, name in case["films"].items()}
        found, expected = model.infer(canvases), case["outputs"]
        for name in model.names:
            error = np.abs(found[name] - np.array(expected[name], np.float64))
            if name == "boxes":  # without a construct the best cell is arbitrary, and so is its box
                error = error[np.array(expected["box_scores"]) >= model.manifest["thresholds"]["box"]]
            errors[name] = max(errors[name], np.nan_to_num(error, nan=np.inf).max(initial=0.0))
        if len(canvases) == len(VIEWS):
            patient = canvases
    print(f"{model.manifest['name']}, {model.manifest['precision']}, {model.runtime}", file=screen)
    print(f"{'golden output':16}{'difference':>12}{'accepted':>12}", file=screen)
    for name in model.names:
        print(f"{name:16}{errors[name]:12.1e}{tolerance[name]:12.1e}", file=screen)
    if wrong := [name for name in model.names if not errors[name] <= tolerance[name]]:
        sys.exit(
            f"error: too far from the golden vectors: {', '.join(wrong)}; this machine's answers are not the bundle's: "
            "try another version of onnxruntime, or export the bundle again"
        )
    return patient


def describe_circumstances(model):
    """Return all that decides whether the golden vectors pass, as the text to be remembered."""
    multiarray = (getattr(np, "_core", None) or np.core)._multiarray_umath  # np.core: before numpy 2
    fact = {
        "passed": "golden vectors, runner",
        "manifest": hashlib.sha256((BUNDLE / "manifest.json").read_bytes()).hexdigest(),  # it holds the hashes of all other files
        "runtime": model.runtime,
        "system": platform.system(),
        "machine": platform.machine(),
        "features": read_system("/proc/cpuinfo", "flags") or read_system("/proc/cpuinfo", "Features"),
        # numpy asks the processor and not the system: under qemu-user the system tells of the machine that emulates.
        "features_of_numpy": sorted(name for name, has in multiarray.__cpu_features__.items() if has),
    }
    return json.dumps(fact, indent=1, sort_keys=True) + "\n"


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


def print_answer(model, canvases):
    """Print what the graph says of one patient."""
    answer = model.infer(canvases)
    decision, brands, probabilities = DECISIONS[answer["decision"][0]], model.manifest["brands"], answer["probabilities"]
    print(f"{decision}: {brands[probabilities.argmax()]}" if decision == "identified" else decision)
    for index in np.argsort(-probabilities):
        print(f"{probabilities[index]:8.4f} {'*' if answer['prediction_set'][index] else ' '} {brands[index]}")
    print(f"         * can't be excluded at {model.manifest['thresholds']['coverage']:.0%} coverage")
    for row, view in enumerate(VIEWS):
        if view in canvases:
            box = " ".join(f"{edge:.1f}" for edge in answer["boxes"][row])
            print(f"{view}: box {box} (canvas pixels), score {answer['box_scores'][row]:.3f}")
    print(model.manifest["intended_use"])


def answer_pack(model, path, out, speed):
    """Answer for every patient of a pack, read one at a time, and write outputs.npz into the folder `out`; latency.json if it was timed."""
    with np.load(path) as pack:
        if pack["schema"] != 1 or str(pack["bundle"]) != model.manifest["model_sha256"]:
            sys.exit(f"error: {path} was packed for another bundle; pack it again: edgekit verify BUNDLE STUDIES --pack {path}")
        answers = []
        for row, present in enumerate(pack["present"]):
            canvases = {view: pack[f"{view}_{row:06}"] for view, given in zip(VIEWS, present, strict=True) if given}
            answers.append(model.infer(canvases))
            print(f"\r{row + 1} patients", end="", file=sys.stderr)
        print(file=sys.stderr)
        copied = {name: pack[name] for name in ("schema", "bundle", "pack")}
    out.mkdir(parents=True, exist_ok=True)
    stacked = {name: np.stack([answer[name] for answer in answers]) for name in SENT}
    labels = {"session": "onnxruntime", "runtime": model.runtime, "cpu": json.dumps(describe_processor(model.threads))}
    np.savez_compressed(out / "outputs.npz", **copied, **labels, **stacked)
    print(f"wrote {out / 'outputs.npz'}")
    if speed is None:
        return
    provenance = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "bundle": str(copied["bundle"]),
        "pack": str(copied["pack"]),
        "runtime": model.runtime,
        "threads": model.threads or None,
    }
    latency = {"device": describe_device(), "provenance": provenance, "rows": [speed]}
    (out / "latency.json").write_text(json.dumps(latency, indent=2) + "\n")
    print(f"wrote {out / 'latency.json'}")


def measure_speed(model, patient):
    """Return the row `two-view` of latency.json: one patient with both films, from canvases to the answer."""
    times_ms = []
    for _ in range(WARMUP + REPEATS):
        started = time.perf_counter()
        model.infer(patient)
        times_ms.append(1000 * (time.perf_counter() - started))
    return {
        "name": "two-view",
        "session": "onnxruntime",
        "precision": model.manifest["precision"],
        "n": REPEATS,
        "warmup": WARMUP,
        **{f"p{share}_ms": float(np.percentile(times_ms[WARMUP:], share)) for share in (50, 95, 99)},
        "load_ms": model.load_ms,
        "peak_rss_mb": measure_peak_mb(),
        "size_mb": (BUNDLE / model.manifest["model"]).stat().st_size / 1e6,
        "stages": {},
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


def describe_processor(threads):
    """Return what the answers belong to; no instructions where the system is not Linux."""
    machine = platform.machine()
    flags = (read_system("/proc/cpuinfo", "flags") or read_system("/proc/cpuinfo", "Features")).split()
    features = [name for name in FEATURES.get(machine, ()) if name in flags]
    name = describe_device()["cpu"]
    return {"name": name, "architecture": machine, "features": features, "threads": threads or None, "emulated": None}


def describe_device():
    """Return what the figures belong to: processor, cores, system."""
    cpu = read_system("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": cpu, "cores": cores, "os": platform.platform(), "python": platform.python_version()}


def read_system(path, key):
    """Return what stands behind `key` in a file of Linux's /proc; empty where there is none."""
    lines = Path(path).read_text().splitlines() if Path(path).exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


if __name__ == "__main__":
    main()
