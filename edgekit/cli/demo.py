"""``edgekit demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import console
from edgekit.task import INTENDED_USE


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to make, or to continue in after an interruption.")] = Path("runs/demo"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Do the main job end to end on simulated films: cohort, train, evaluate, export, verify, measure, report.

    Example: edgekit demo --out runs/demo
    """
    from edgekit.demo import run_demo, summarize_demo

    console.when_interrupted("What is done is kept: the same command goes on.")
    made = run_demo(out, console.say)
    if json:
        console.print_json(summarize_demo(made))
        return
    headline = made.metrics["models"]["ap+lateral"]
    low, high = headline["ci95"]["accuracy"]
    rows = [
        ("test patients", headline["patients"]),
        ("accuracy of ap+lateral (95 % interval)", f"{headline['accuracy']:.3f} ({low:.3f} to {high:.3f})"),
        ("mean box IoU", f"{made.metrics['detector']['mean_iou']:.3f}"),
        *((f"parity: {row['target']} in {row['session']}", f"{row['verdict']} on {row['n']} patients") for row in made.parity),
        *((f"median time: {row['session']}", f"{row['p50_ms']:.0f} ms") for row in made.latency["rows"]),
        ("minutes", f"{sum(made.seconds.values()) / 60:.1f}"),
    ]
    console.print_table("Simulated films", ("", "figure"), rows)
    console.say(f"Report: {made.report}")
    console.say("What to type next:")
    for command, purpose in made.following:
        console.say(f"  {command}\n      {purpose}")
    console.say(INTENDED_USE)
