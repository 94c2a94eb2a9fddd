"""``edgekit train``."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli import console


def train(
    studies: Annotated[Path | None, typer.Argument(help="studies.csv with train and validation rows; --show-settings needs none.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run folder to make; --show-settings needs none.")] = None,
    preset: Annotated[str, typer.Option(help="Settings to start from: demo or paper.")] = "demo",
    config: Annotated[Path | None, typer.Option(help="TOML laid over the preset.")] = None,
    weights: Annotated[Path | None, typer.Option(help="ImageNet weights of the members (safetensors, timm naming).")] = None,
    detector: Annotated[Path | None, typer.Option(help="Another run, whose detector is taken as it is.")] = None,
    detector_studies: Annotated[
        Path | None, typer.Option(help="studies.csv of the detector's own films; its validation rows choose the threshold.")
    ] = None,
    detector_weights: Annotated[Path | None, typer.Option(help="A detector.safetensors to start the detector from.")] = None,
    only: Annotated[
        str | None, typer.Option(help="Train one stage and stop: detector, members, corners or ensemble; the stages it builds on are done.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run from its last epoch.")] = False,
    show_settings: Annotated[
        bool,
        typer.Option("--show-settings", help="Print the settings that --preset and --config give, as TOML for --config; train nothing."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Train the detector, the members and the ensembles into a run folder.

    Example: edgekit train cohort/studies.csv --detector-studies detector/studies.csv --out runs/paper --preset paper

    Settings of your own: edgekit train --show-settings > mine.toml, change mine.toml, and give it with --config mine.toml.

    Interrupted? The same command with --resume goes on. On several GPUs or machines: accelerate launch -m edgekit train ...
    """
    from edgekit.errors import UsageError
    from edgekit.training.config import load_config

    settings = load_config(preset, config)
    if show_settings:
        if json:
            console.print_json(settings.to_json())
        else:
            console.say(settings.to_toml().rstrip())
        return
    if studies is None or out is None:
        raise UsageError("Missing argument 'STUDIES'." if studies is None else "Missing option '--out'.", "see edgekit train --help")
    from edgekit.models.runfolder import load_detector_settings, load_settings, read_json
    from edgekit.training.run import DetectorSource, train_run

    console.when_interrupted("What is done is kept: the same command with --resume goes on.")
    source = DetectorSource(run=detector, studies=detector_studies, weights=detector_weights)
    run = train_run(studies, out, settings, weights=weights, source=source, only=only, resume=resume)
    if os.environ.get("RANK", "0") != "0":  # one of several processes: the main one speaks
        return
    if not (run / "pipeline.json").is_file():
        stage: dict[str, Any] = {"run": str(run), "only": only}
        located = only != "corners" and settings.task.locate
        if located:
            stage |= asdict(load_detector_settings(run))
        if json:
            console.print_json(stage)
        else:
            also = f", or take the detector with --detector {run}" if located else ""
            console.say(f"{run}: {only} trained; go on with --resume{also}.")
        return
    trained, provenance = load_settings(run), read_json(run / "provenance.json")
    if json:
        console.print_json({"run": str(run), "brands": list(trained.brands), "ensemble": trained.ensemble, **provenance})
        return
    console.say(
        f"{run}: {', '.join(trained.architectures)} trained on {provenance['patients']['train']} patients "
        f"in {provenance['seconds'] / 60:.1f} min; {trained.ensemble} was best on validation."
    )
