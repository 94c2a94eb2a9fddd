"""Keep a training: settings, provenance, history, figures and pictures of a run and its evaluation, small enough for git.

.venv/bin/python benchmarks/keep.py RUN EVALUATION benchmarks/results/paper-lite0

Of the models it keeps those that the paper names and the one that the run chose; the evaluation's folder has all of them.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

NAMED = (
    "ap",
    "lateral",
    "concat",
    "merge_ap",
    "merge_lateral",
    "merge_dual",
    "merge_mean",
    "ap+lateral",
    "ap+lateral+concat",
    "ap+lateral+merge",
    "lateral+concat",
    "all",
)
PICTURES = {"Accuracy of every model": "models", "Confusion matrix of": "confusion", "ROC curves": "roc", "Reliability": "reliability"}
"""How the alternative text of a picture in ``report.html`` begins, and what it is called here."""
PICTURE_WIDTH = 900
"""Pixels at most."""


def keep_models(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return `metrics` with the models that are named, and without what grows with every pair of models."""
    wanted = {*NAMED, metrics.get("provenance", {}).get("ensemble")}
    kept = {key: value for key, value in metrics.items() if key not in ("models", "comparisons", "external", "drop")}
    kept["models"] = {name: model for name, model in metrics["models"].items() if name in wanted}
    kept["comparisons"] = [pair for pair in metrics.get("comparisons", ()) if {pair["a"], pair["b"]} <= wanted]
    if "drop" in metrics:
        kept["drop"] = {name: drop for name, drop in metrics["drop"].items() if name in wanted}
    if "external" in metrics:
        kept["external"] = keep_models(metrics["external"])
    return kept


def strip_folders(document: Any) -> Any:
    """Keep the name of every file and no folder of the machine it was on."""
    if isinstance(document, dict):
        return {key: Path(value).name if key in ("path", "run") else strip_folders(value) for key, value in document.items()}
    return [strip_folders(item) for item in document] if isinstance(document, list) else document


def write_compact(path: Path, document: Any) -> None:
    """Write one line of JSON a model, so that a change of one shows as one."""
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in document.items() if key != "models"]
    models = [f"  {json.dumps(name)}: {json.dumps(model)}" for name, model in document["models"].items()]
    path.write_text("{" + ",\n".join([*lines, '"models": {\n' + ",\n".join(models) + "\n}"]) + "}\n", encoding="utf-8")


def main() -> None:
    """Copy what is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in ("config.toml", "history.csv"):
        shutil.copy(arguments.run / name, arguments.out / name)
    provenance = json.loads((arguments.run / "provenance.json").read_text(encoding="utf-8"))
    (arguments.out / "provenance.json").write_text(json.dumps(strip_folders(provenance), indent=2) + "\n", encoding="utf-8")
    metrics = json.loads((arguments.evaluation / "metrics.json").read_text(encoding="utf-8"))
    write_compact(arguments.out / "metrics.json", keep_models(metrics))
    page = (arguments.evaluation / "report.html").read_text(encoding="utf-8")
    seen: set[str] = set()
    for source, alt in re.findall(r'<img[^>]*?src="data:image/(?:png|jpeg);base64,([^"]+)"[^>]*?alt="([^"]*)"', page):
        name = next((name for start, name in PICTURES.items() if alt.startswith(start)), None)
        if name is not None and name not in seen:  # the chosen model's come first
            seen.add(name)
            picture = Image.open(io.BytesIO(base64.b64decode(source)))
            picture.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH))
            paper = Image.new("RGB", picture.size, "white")
            paper.paste(picture.convert("RGBA"), mask=picture.convert("RGBA"))
            paper.quantize(64).save(arguments.out / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
