"""``edgekit train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import console


def train(
    studies: Annotated[Path, typer.Argument(help="studies.csv with train and validation rows.")],
    out: Annotated[Path, typer.Option("--out", help="The run folder to make.")],
    preset: Annotated[str, typer.Option(help="Settings to start from: demo or paper.")] = "demo",
    config: Annotated[Path | None, typer.Option(help="TOML laid over the preset.")] = None,
    weights: Annotated[Path | None, typer.Option(help="ImageNet weights of the members (safetensors, timm naming).")] = None,
    detector: Annotated[Path | None, typer.Option(help="Another run, whose detector is taken as it is.")] = None,
    detector_studies: Annotated[
        Path | None, typer.Option(help="studies.csv of the detector's own films; its validation rows choose the threshold.")
    ] = None,
    detector_weights: Annotated[Path | None, typer.Option(help="A detector.safetensors to start the detector from.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Train the detector, the members and the ensembles into a run folder.

    Example: edgekit train cohort/studies.csv --detector-studies detector/studies.csv --out runs/paper --preset paper
    """
    from edgekit.models.runfolder import load_settings, read_json
    from edgekit.training.config import load_config
    from edgekit.training.run import DetectorSource, train_run

    source = DetectorSource(run=detector, studies=detector_studies, weights=detector_weights)
    run = train_run(studies, out, load_config(preset, config), weights=weights, source=source)
    settings, provenance = load_settings(run), read_json(run / "provenance.json")
    if json:
        console.print_json({"run": str(run), "brands": list(settings.brands), "ensemble": settings.ensemble, **provenance})
        return
    console.say(
        f"{run}: {', '.join(settings.architectures)} trained on {provenance['patients']['train']} patients "
        f"in {provenance['seconds'] / 60:.1f} min; {settings.ensemble} was best on validation."
    )
