"""How fast simulated films are made: patients per second, peak memory, and where the time goes.

.venv/bin/python benchmarks/films.py --patients 48 --out benchmarks/results/films.json
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import resource
import tempfile
import time
from pathlib import Path

from edgekit.cores import count_threads
from edgekit.phantom.cohort import make_cohort
from edgekit.phantom.dicom import write_film
from edgekit.phantom.plan import CohortParameters
from edgekit.phantom.scene import simulate_patient
from edgekit.provenance import describe_software

GOALS = {1500: 2.0, 768: 5.0}
"""Patients (two films, written as DICOM) per second on two cores."""


def measure_speed(size: int, patients: int) -> float:
    """Return patients per second, all cores, after a warm start of the compiled kernels."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        make_cohort(Path(folder) / "cohort", CohortParameters(patients=patients, split="test", size=size, seed=1))
        return patients / (time.perf_counter() - start)


def find_largest_parts(size: int, patients: int) -> list[dict[str, float | str]]:
    """Return the functions of edgekit that take most of one process's time, by their own and their libraries' time."""
    profile = cProfile.Profile()
    with tempfile.TemporaryDirectory() as folder:
        profile.enable()
        for seed in range(patients):
            for view, film in simulate_patient("design-b", seed, size=size, has_crosslink=True).items():
                write_film(film, Path(folder) / f"{seed}_{view}.dcm", patient_id=str(seed), view=view, source="benchmark")
        profile.disable()
    stages = (
        "make_anatomy",
        "make_construct",
        "make_hardware",
        "cast_shadow",
        "add_metal",
        "detect",
        "develop",
        "annotate",
        "write_film",
        "store",
    )
    statistics = pstats.Stats(profile)
    total = statistics.total_tt  # type: ignore[attr-defined]
    cumulative: dict[str, float] = {}
    for (_, _, name), (_, _, _, seconds, _) in statistics.stats.items():  # type: ignore[attr-defined]
        if name in stages:
            cumulative[name] = cumulative.get(name, 0.0) + seconds
    ranked = sorted(cumulative.items(), key=lambda item: -item[1])
    return [{"part": name, "share": round(seconds / total, 3)} for name, seconds in ranked]


def main() -> None:
    """Measure, print and keep a record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=48)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/films.json"))
    arguments = parser.parse_args()
    measure_speed(96, 4)
    rows = []
    for size, goal in GOALS.items():
        speed = measure_speed(size, arguments.patients)
        parts = find_largest_parts(size, 6)
        rows.append({"size": size, "patients_per_second": round(speed, 2), "goal": goal, "parts": parts})
        print(f"{size} px: {speed:.1f} patients/s (goal {goal}); " + ", ".join(f"{p['part']} {p['share']:.0%}" for p in parts[:3]))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    record = {**describe_software(), "cores": count_threads(), "n": arguments.patients, "peak_rss_mb_per_worker": round(peak), "rows": rows}
    arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
