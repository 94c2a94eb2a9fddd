"""The reference's answers, computed once for a set of films and kept in the run folder.

Kept as ``RUN/.references/<key>.npz``. Nothing stale is ever used, for two reasons:

- The key hashes everything that decides the answers but the films' content: the run's weights and settings (by content), the ensemble,
  the canvas's side, the code and the versions of the networks; and it tells the films apart by name, size and time of change, as
  ``make`` does. Whose films they are, and the brand, decide no answer: a corrected label needs no new ones.
- What a name, a size and a time can hide, a film rewritten within its clock's tick or another decoder, changes the canvases. Their hash is
  kept with the answers, and whoever compares with them must have seen canvases of the same hash (`edgekit.parity`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError
from edgekit.files import hash_file
from edgekit.parity.recording import THREADS, Recording, read_recording, record, write_recording
from edgekit.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.types import Bundle, Session, Study

FOLDER = ".references"
NETWORKS = ("torch", "timm", "ultralytics", "numpy")
"""Packages whose version decides what the reference answers."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The torch pipeline that a bundle is compared with, on one table of films.

    Attributes
    ----------
    run
        The run folder.
    bundle
        Made from that run.
    studies
        The rows.
    """

    run: Path
    bundle: Bundle
    studies: Sequence[Study]

    def open(self) -> Session:
        """Open the pipeline as a session."""
        from edgekit.sessions.torch import open_run

        return open_run(self.run, self.bundle.manifest.ensemble, THREADS)

    def compute(self) -> Recording:
        """Answer for every film anew, and keep the answers."""
        with self.open() as session:
            (answers,) = record([], self.studies, self.bundle.views, self.bundle.canvas_side, session)
        self.keep(answers)
        return answers

    def find(self) -> Recording | None:
        """Return the answers kept; None when there are none, or the file is damaged."""
        key = self._key()
        try:
            return read_recording(self._path(key), key, len(self.studies), self.bundle.manifest.tensors["outputs"])
        except (InputError, OSError):
            return None

    def keep(self, answers: Recording) -> None:
        """Keep answers for the next comparison; in a run folder that can't be written nothing is kept."""
        key = self._key()
        try:
            write_recording(self._path(key), answers, key)
        except OSError:  # read-only or full: it costs the next comparison time, and no answer
            return

    def _path(self, key: str) -> Path:
        return self.run / FOLDER / f"{key}.npz"

    def _key(self) -> str:
        from edgekit.models.runfolder import run_hash

        document: dict[str, Any] = {
            "run": run_hash(self.run),
            "ensemble": self.bundle.manifest.ensemble,
            "side": self.bundle.canvas_side,
            "edgekit": VERSION,
            "code": _hash_code(),
            "versions": {name: importlib.metadata.version(name) for name in NETWORKS},
            "rows": [[_describe_film(study.film(view)) for view in self.bundle.views] for study in self.studies],
        }
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def _describe_film(film: Path | None) -> list[Any] | None:
    """Return what tells a film from another without reading it; a missing one is reported when it is read."""
    if film is None or not film.exists():
        return None
    facts = film.stat()
    return [film.name, facts.st_size, facts.st_mtime_ns]


def _hash_code() -> list[str]:
    """Return the hashes of the modules that make the reference: in a checkout they change without a new version."""
    package = Path(__file__).parents[1]
    return [hash_file(path) for path in sorted([*(package / "models").glob("*.py"), package / "sessions" / "torch.py"])]
