"""The latency records as one self-contained page, and as the table of README.md.

.venv/bin/python benchmarks/page.py build/benchmarks.html [--records FOLDER] [--readme FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edgekit.errors import InputError
from edgekit.files import write_text
from edgekit.latency.records import read_latency

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
BEGIN, END = "<!-- records: made by page.py -->", "<!-- end of records -->"


def main() -> None:
    """Write the page, and the table where a file for it is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--records", type=Path, default=RESULTS)
    parser.add_argument("--readme", type=Path, help="whose table between the marks is replaced")
    arguments = parser.parse_args()
    records = read_records(arguments.records)
    write_text(arguments.out, render_page(records))
    if arguments.readme:
        write_text(arguments.readme, replace_table(arguments.readme.read_text(encoding="utf-8"), records))


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the records of a folder in latency's schema, by file name; ``latency-*.json`` came back from devices.

    Files without ``rows`` are records of something else. One that has rows and does not fit is an error.
    """
    records = {}
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = document.get("rows") if isinstance(document, dict) else None
        if isinstance(rows, list) and rows and isinstance(rows[0], dict) and "p50_ms" in rows[0]:
            records[path.stem] = {"suite": None, "accuracy": {}, "goals": [], **read_latency(path)}
    return records


def render_page(records: dict[str, dict[str, Any]]) -> str:
    """Return the page: nothing in it is loaded from elsewhere."""
    from importlib.resources import files

    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    style = files("edgekit.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2").render(records=records, style=style, label_accuracy=label_accuracy)


def label_accuracy(record: dict[str, Any], session: str) -> str:
    """Return a row's accuracy in words; a dash where none was measured."""
    found = record["accuracy"].get(session)
    return f"{100 * found['right'] / found['n']:.1f} %" if found else "–"


def shorten(reason: str) -> str:
    """Return the first line of a reason."""
    return reason.partition("\n")[0]


def replace_table(readme: str, records: dict[str, dict[str, Any]]) -> str:
    """Return README.md with the table of these records between its marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"the file has no place for the table: {BEGIN} and {END} are missing")
    return f"{before}{BEGIN}\n{tabulate(records)}{END}{after}"


def tabulate(records: dict[str, dict[str, Any]]) -> str:
    """Return the records as Markdown, goals first."""
    if not records:
        return "No latency record is kept yet.\n"
    lines = ["| record | figure | goal | measured | |", "|---|---|---|---|---|"]
    for name, record in records.items():
        for goal in record["goals"]:
            bound = f"≥ {goal['at_least']:g}" if "at_least" in goal else f"≤ {goal['at_most']:g}"
            measured = "–" if goal["measured"] is None else f"{goal['measured']:.4g}"
            lines.append(f"| {name} | {goal['what']} | {bound} | {measured} | {goal['verdict']} |")
    lines += ["", "| record | row | precision | p50 ms | p95 ms | spread | accuracy |", "|---|---|---|---|---|---|---|"]
    for name, record in records.items():
        for row in record["rows"]:
            spread = "–" if row["spread"] is None else f"{100 * row['spread']:.0f} %"
            cells = name, row["session"], row["precision"], f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}", spread
            lines.append(f"| {' | '.join(cells)} | {label_accuracy(record, row['session'])} |")
        lines += [f"| {name} | {each['session']} | not measured: {shorten(each['reason'])} | | | | |" for each in record["not_measured"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
