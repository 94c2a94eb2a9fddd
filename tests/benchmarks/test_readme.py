"""README.md states what the kept records say: every sentence and row here is made from a record, and must stand there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.proportions import clopper_pearson
from edgekit.targets import PRECISIONS

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "benchmarks" / "results"
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def read(name: str) -> Any:
    return json.loads((RECORDS / name).read_text(encoding="utf-8"))


def find_row(record: dict[str, Any], session: str) -> dict[str, Any]:
    return next(row for row in record["rows"] if row["session"] == session)


def find_goal(record: dict[str, Any], row: str, figure: str) -> float:
    goal = next(goal for goal in record["goals"] if (goal["row"], goal.get("figure")) == (row, figure))
    return float(goal.get("at_most", goal.get("at_least")))


def show_percent(share: float) -> str:
    return f"{100 * share:.1f}"


def show_short(value: float) -> str:
    """One decimal, none where it is 0."""
    return f"{round(value, 1):g}"


def show_accuracy(model: dict[str, Any]) -> str:
    low, high = clopper_pearson(round(model["accuracy"] * model["n"]), model["n"])
    return f"{show_percent(model['accuracy'])} % ({show_percent(low)}-{show_percent(high)})"


def show_span(values: list[float]) -> str:
    return f"{show_short(min(values))} to {show_short(max(values))}"


def list_models() -> Iterator[str]:
    """The table of the kept run, and the sentence on the other one."""
    record = read("paper-lite0/metrics.json")
    rows = {
        "ap": "AP",
        "lateral": "lateral",
        "ap+lateral": "**AP and lateral**",
        "ap+lateral+merge": "chosen on validation: ap+lateral+merge",
    }
    here, there = record["models"], record["external"]["models"]
    yield f"| {here['ap']['n']} test patients | accuracy (95 % interval) |"
    yield f"another site, {there['ap']['n']} patients |"
    for name, label in rows.items():
        accuracy = f"**{show_accuracy(here[name])}**" if "**" in label else show_accuracy(here[name])
        crosslink = " / ".join(show_short(100 * here[name]["crosslink"][group]["accuracy"]) for group in ("with", "without"))
        elsewhere = show_short(100 * there[name]["accuracy"])
        yield f"| {label} | {accuracy} | {here[name]['macro']['auc']:.3f} | {crosslink} % | {elsewhere} % |"
    record = read("paper-b0/metrics.json")
    elsewhere = show_percent(record["external"]["models"]["ap+lateral"]["accuracy"])
    yield f"same detector): {show_accuracy(record['models']['ap+lateral'])}, another site {elsewhere} %."


def list_shoulder() -> Iterator[str]:
    record = read("shoulder.json")
    figures, published = record["figures"], record["published"]
    low, high = (show_percent(bound) for bound in figures["ci95"]["accuracy"])
    yield f"prostheses on {record['films']} public radiographs,"
    yield f"**{show_percent(figures['accuracy'])} % of the films are named correctly** (95 % interval {low}-{high};"
    yield f"kappa {figures['kappa']:.2f}, macro AUC {figures['macro']['auc']:.3f});"
    least, most = show_percent(min(published.values())), show_percent(max(published.values()))
    yield f"Urban et al. 2020, who made the set, have {show_percent(published['Urban et al. 2020, NASNet, 10-fold'])} %,"
    yield f"published methods on the same films {least} to {most} %."
    exact, eight_bits, weights = record["converted"].values()
    changes = f"{exact['changed']} change in float32, {eight_bits['changed']} in 8 bits and {weights['changed']} with 8-bit weights"
    yield f"of {exact['n']} answers {changes} in Core ML's reference."


def list_photos() -> Iterator[str]:
    drop = read("photos.json")["with_photos"]["drop"]["ap+lateral"]
    low, high = (show_percent(bound) for bound in drop["ci95"])
    named = f"named right {show_percent(drop['photo'])} % of the time instead of {show_percent(drop['film'])} % on their films"
    yield f"{drop['n']:,} further patients are {named}: a drop of {show_percent(drop['value'])} points ({low} to {high})."


def read_targets(folder: str) -> dict[str, dict[str, Any]]:
    """The records of a run's targets by name, without those of emulated processors."""
    records = {path.stem: read(f"{folder}/{path.name}") for path in sorted((RECORDS / folder).glob("*.json"))}
    return {name: record for name, record in records.items() if "model" in record}


def list_sessions(records: dict[str, dict[str, Any]], *precisions: str) -> list[dict[str, Any]]:
    return [session for record in records.values() if record["precision"] in precisions for session in record["parity"]["sessions"]]


def list_targets() -> Iterator[str]:
    kept = read_targets("targets-paper-lite0")
    sessions = {kind: list_sessions(kept, *kind) for kind in (("w8a8",), ("fp16", "w8a16"), ("fp32",))}
    changed = [show_span([session["flips"] for session in some]) for some in sessions.values()]
    (before,) = {show_percent(session["accuracy_reference"]) for some in sessions.values() for session in some}
    after = show_span([100 * session["accuracy_candidate"] for session in sessions["w8a8",]])
    assert {session["verdict"] for some in sessions.values() for session in some} == {"PASS"}
    yield f"in 8 bits {changed[0]} patients get another brand (accuracy {before} % before, {after} % after)"
    assert changed[2] == "0 to 0"
    yield f"in float16 and with 8-bit weights {changed[1]}, in float32 none"
    sizes = {
        precision: [record["model"]["size_mb"] for record in kept.values() if record["precision"] == precision] for precision in PRECISIONS
    }
    eight, half, (whole,) = show_span(sizes["w8a8"] + sizes["w8a16"]), show_span(sizes["fp16"]), set(map(show_short, sizes["fp32"]))
    yield f"Model files of {eight} MB in 8 bits, {half} in float16, {whole} in float32."

    again = list_sessions(read_targets("targets-paper-lite0-again"), "w8a8")
    flips = show_span([session["flips"] for session in again])
    yield f"`benchmarks/results/targets-paper-lite0-again`, {show_percent(again[0]['accuracy_reference'])} %) {flips} get another brand"

    demo = read_targets("targets-demo")
    flips_of = {record["target"]: [session["flips"] for session in record["parity"]["sessions"]] for record in demo.values()}
    size_of = {record["target"]: show_short(record["model"]["size_mb"]) for record in demo.values()}
    yield f"(`targets-demo`, {show_percent(demo['web-w8a8']['parity']['sessions'][0]['accuracy_reference'])} %)"
    yield f"for `web` ({flips_of['web'][0]} and {flips_of['web'][1]} changed), `android` ({flips_of['android'][0]})"
    yield f"and `jetson` ({flips_of['jetson'][0]}), at {size_of['web']} MB ({size_of['jetson']} for `jetson`)"
    yield f"`desktop-cpu` ({flips_of['desktop-cpu'][0]} in onnxruntime) and `ios` ({flips_of['ios'][0]}, where"


def list_speeds() -> Iterator[str]:
    record = read("two-view.json")
    ours = find_row(record, "desktop-cpu:w8a8/onnxruntime")
    ratio = ours["ratio"]
    openvino = [ratio[name] for name in ("openvino-equal", "openvino-equal-bf16", "openvino-graph", "openvino-graph-bf16")]
    yield f"| `desktop-cpu` in 8 bits, {ours['p50_ms']:.1f} ms | is faster by |"
    yield f"as the paper's shape would be run | {ratio['eager-usual']:.1f}x ("
    yield f"our input and networks | {ratio['ultralytics-onnx-equal']:.1f}x |"
    yield f"OpenVINO with NNCF's 8 bits, our input and networks | {min(openvino):.1f} to {max(openvino):.1f}x |"
    browsers = [read(f"{suite}.json") for suite in ("browser", "browser-one-thread")]
    two, one = (find_row(browser, "web:w8a8/browser")["p50_ms"] for browser in browsers)
    goals = [find_goal(browser, "web:w8a8/browser", "p50_ms") for browser in browsers]
    yield f"The browser takes {two:.0f} ms with two threads and {one:.0f} with one, where the goals were {goals[0]:.0f} and {goals[1]:.0f}"
    goal = find_goal(record, ours["session"], "floor_fraction")
    yield f"{100 * ours['floor_fraction']:.0f} % of this processor's 8-bit arithmetic is reached, where the goal was {100 * goal:.0f}:"
    cold = find_row(read("cold.json"), "desktop-cpu:w8a8")
    yield f"A fresh `edgekit predict` from DICOM takes {cold['p50_ms'] / 1000:.1f} to "
    first = cold["ratio"]["desktop-cpu:w8a8, first time"]
    yield f"s and {cold['peak_rss_mb']:.0f} MB (the first time on a machine, golden answers included, {first:.1f} to "
    shared = read("shared.json")
    rows = shared["provenance"]["settings"]["rows"]
    alone, beside = (1000 * rows / find_row(shared, f"predict --studies{where}")["p50_ms"] for where in ("", ", beside a busy core"))
    screening = find_row(read("screening.json"), "desktop-cpu:w8a8")["throughput_per_s"]
    yield f"goes through at {screening:.0f} to {alone:.0f} patients a second in constant memory, at {beside:.0f} beside a process"


@pytest.mark.parametrize("sentence", [*list_models(), *list_shoulder(), *list_photos(), *list_targets(), *list_speeds()])
def test_the_readme_states_what_the_records_say(sentence: str) -> None:
    assert sentence in README
