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

import hashlib
import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

sys.dont_write_bytecode = True  # the bundle stays as it is
sys.path.insert(0, str(Path(__file__).parent))

from bundle_runner import (  # noqa: E402
    BUNDLE,
    Model,
    answer_pack,
    check_golden,
    count_films,
    describe_times,
    is_remembered,
    parse_arguments,
    print_answer,
    read_canvases,
    read_manifest,
    read_system,
    remember,
)

FEATURES = {
    "x86_64": ("sse4_1", "avx2", "avx_vnni", "avx512bw", "avx512_vnni", "amx_int8"),
    "aarch64": ("asimd", "asimddp", "i8mm"),
}
"""The instructions by which onnxruntime chooses its 8-bit kernels, under Linux's names."""
WARMUP, REPEATS = 5, 100


def main():
    """Do what the command line asks for."""
    manifest = read_manifest()
    asked = parse_arguments(__doc__, manifest, add_options)
    model = OnnxModel(manifest, asked.threads)
    if asked.films:
        fact = describe_circumstances(model)
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


def add_options(parser):
    """Add what only this runner takes."""
    parser.add_argument("--threads", type=int, default=0, help="threads within an operator (default: one a core)")
    parser.add_argument("--no-timing", action="store_true", help="measure no time: golden vectors and answers alone")


class OnnxModel(Model):
    """The bundle's graph on the CPU, and nothing else: no other provider is tried."""

    session, remedy = "onnxruntime", "another version of onnxruntime"

    def __init__(self, manifest, threads):
        super().__init__(manifest)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        started = time.perf_counter()
        self._session = onnxruntime.InferenceSession(BUNDLE / manifest["model"], options, providers=["CPUExecutionProvider"])
        self.load_ms = 1000 * (time.perf_counter() - started)
        self.names = list(manifest["tensors"]["outputs"])
        self.runtime = f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider, threads {threads or 'one a core'}"
        self.threads, self.speed = threads, None

    def run(self, inputs):
        """Map the graph's inputs to its outputs, both by name."""
        return dict(zip(self.names, self._session.run(self.names, inputs), strict=True))

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
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return {**super().describe_device(), "cpu": cpu, "cores": cores}


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


if __name__ == "__main__":
    main()
