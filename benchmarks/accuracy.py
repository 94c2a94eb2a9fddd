"""How often a candidate is right, measured once and kept: beside a time without it, nobody knows what the time bought."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.files import hash_file, write_json
from edgekit.task import PEDICLE_SCREWS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from edgekit.types import Study


VIEWS = PEDICLE_SCREWS.views


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to answer.

    Attributes
    ----------
    weights
        Hash of what it answers with.
    brands
        In the order of its probabilities.
    opener
        Opens it; picklable.
    prepare
        Makes its files; None when there is nothing to make.
    model
        Its ONNX file; None where it has no one file.
    in_browser
        Whether a page of a browser answers, whose memory no process of ours tells.
    """

    name: str
    precision: str
    what: str
    weights: str
    brands: tuple[str, ...]
    opener: Callable[[], Any]
    prepare: Callable[[], None] | None = None
    model: Path | None = None
    in_browser: bool = False


def measure_accuracy(pool: Executor, candidate: Candidate, table: Path, studies: Sequence[Study], side: int, work: Path) -> dict[str, Any]:
    """Let a candidate make its files, and return ``n``, ``right`` and the table's hash, from `work` when they are there."""
    films = hash_file(table)
    folder = Path(__file__).parent / "peers"
    peers = b"".join(path.read_bytes() for path in sorted([*folder.glob("*.py"), *folder.glob("*.js")]))
    key = hashlib.sha256(f"{candidate.name} {candidate.weights} {films} {len(studies)}".encode() + peers).hexdigest()[:24]
    kept = work / "accuracy" / f"{key}.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        right = pool.submit(prepare_and_count, candidate, list(studies), side).result()
        write_json(kept, {"n": len(studies), "right": right, "studies_sha256": films})
    elif candidate.prepare is not None:
        pool.submit(candidate.prepare).result()
    found: dict[str, Any] = json.loads(kept.read_text())
    return found


def prepare_and_count(candidate: Candidate, studies: Sequence[Study], side: int) -> int:
    """Return how many patients get their true brand; no answer is wrong. Runs in a process of its own."""
    from edgekit.canvases import stream_inputs

    if candidate.prepare is not None:
        candidate.prepare()
    with candidate.opener() as opened:
        answers = [
            (study.brand, opened.infer(inputs)["probabilities"]) for study, inputs, _ in stream_inputs(studies, VIEWS, side, "Accuracy")
        ]
    return sum(bool(values.sum() > 0) and candidate.brands[int(values.argmax())] == brand for brand, values in answers)
