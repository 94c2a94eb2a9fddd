"""The run folder while it is being filled: what it was begun with, and what of it is done."""

from __future__ import annotations

import shutil
import time
import tomllib
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError, UsageError
from edgekit.files import write_json, write_text
from edgekit.models.runfolder import CORNERS, read_json
from edgekit.task import PEDICLE_SCREWS

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.training.config import TrainingConfig

CHECKPOINTS = ".checkpoints"
"""Folder of an unfinished run: films, checkpoints, and what it was begun with. Removed at the end."""
TRAINING_STAGES = ("detector", "members", "corners", "ensemble")
"""The stages of a training in their order; ``--only`` names one."""
EARLIER: dict[str, dict[str, Any]] = {
    "task": PEDICLE_SCREWS.to_json(),
    "detector": {"view_margin": 0.25, "most_false_plain": 0.03, "most_false_other": 0.12, "default_threshold": 0.25},
    "members": {"margin": 0.05, "black": 8, "frozen_stages": 0, "averaging": 0.0},
}
"""What every run had before these were settings; but for the shares of false finds, in whose place Youden's J chose the threshold."""
WORDS = frozenset({"question", "found", "told", "every_case", "intended_use"})
"""What a ``[task]`` says that nothing is trained by: it may change until the run is whole, and with ``--only ensemble`` after that."""
NEEDED = {"members": "detector", "ensemble": "members"}
"""The stage that one of them builds on."""


def claim_run(out: Path, config: TrainingConfig, sources: dict[str, Any], *, resume: bool, only: str | None) -> None:
    """Take `out` as the run folder: new, empty, or begun with the same data and settings.

    Parameters
    ----------
    sources
        What is trained from: files with their hashes.
    resume
        Go on with an unfinished run. ``--only`` goes on as well: its stage builds on the earlier ones.
    only
        The one stage to train.

    Raises
    ------
    UsageError
        `only` is no stage.
    InputError
        `out` holds something else: a finished run, an unfinished one that is not to be resumed or was begun otherwise, other files.
    """
    if only is not None and only not in TRAINING_STAGES:
        raise UsageError(f"--only {only}", f"choose one of {', '.join(TRAINING_STAGES)}")
    if only == "corners" and not config.corners.photos:
        raise InputError("--only corners, but [corners] photos is 0", "give the number of photos in a --config, or use the preset paper")
    begun = out / CHECKPOINTS / "begun.json"
    ends = begun.is_file() and resume  # killed while its ensembles were fitted again, or while `release_run` removed what it left
    if (out / "pipeline.json").exists() and only not in ("corners", "ensemble") and not ends:
        remedy = "choose another --out; --only ensemble fits its ensembles again, --only corners trains its corner finder"
        raise InputError(f"{out} already holds a finished run", remedy)
    if begun.is_file():
        if not resume and only is None:
            raise InputError(f"{out} holds an unfinished run", "go on with --resume, or delete it, or choose another --out")
        _refuse_changes(out, read_json(begun), config, sources, only)
    elif (out / "pipeline.json").exists():
        _refuse_changes(out, read_json(out / "provenance.json")["sources"], config, sources, only)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not an unfinished run", "choose another --out")
    elif resume:
        raise InputError(f"{out} holds no unfinished run", "leave out --resume to begin one")
    elif only in NEEDED and (config.task.locate or NEEDED[only] != "detector"):
        raise InputError(f"{out} is empty, and --only {only} goes on from the stage before", f"train it first with: --only {NEEDED[only]}")
    write_json(begun, sources)
    write_text(out / "config.toml", config.to_toml())


def release_run(out: Path) -> None:
    """Remove what only an unfinished run needs; what it was begun with goes last, so that ``--resume`` ends a removal that was killed."""
    for path in (out / CHECKPOINTS).iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "begun.json":
            path.unlink()
    shutil.rmtree(out / CHECKPOINTS)


class Stopwatch:
    """The time that a run has taken in all processes that worked on it one after the other, whatever stages they trained.

    Of a process that was killed (-9), the time up to its last call of `keep` counts.

    Parameters
    ----------
    out
        The run folder, after `claim_run`.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / CHECKPOINTS / "seconds.json"
        self.finished = out / "provenance.json"  # of a run that is whole, also when its ensembles are fitted again
        # Each goes on from the other, so the larger one is the newer: whoever was killed between writing them left the other behind.
        self.before = max(float(read_json(path)["seconds"]) if path.is_file() else 0.0 for path in (self.path, self.finished))
        self.started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of the earlier processes and of this one."""
        return self.before + time.perf_counter() - self.started

    def keep(self) -> None:
        """Write `seconds` for the process that goes on if this one is killed."""
        write_json(self.path, {"seconds": self.seconds})

    def record(self) -> None:
        """Write `seconds` into the provenance of a finished run, to which a stage was added."""
        write_json(self.finished, {**read_json(self.finished), "seconds": round(self.seconds, 1)})


def _refuse_changes(out: Path, begun: dict[str, Any], config: TrainingConfig, sources: dict[str, Any], only: str | None) -> None:
    """Raise when the run would go on with something else than it was begun with; a stage that has not begun may change."""
    changed = [name for name in sources if begun.get(name) != sources[name]]
    old, new = tomllib.loads((out / "config.toml").read_text(encoding="utf-8")), tomllib.loads(config.to_toml())
    for table, values in EARLIER.items():
        old[table] = {**values, **old.get(table, {})}
    free = {"device", "tensorboard", "ensembles"}
    if only == "members" and not (out / CHECKPOINTS / "members").exists():
        free.add("members")
    if not (out / CORNERS).exists() and not (out / CHECKPOINTS / "corners").exists():
        free.add("corners")
    for key, value in new.items():
        if isinstance(value, dict):
            loose = set(value) if key in free else WORDS if key == "task" else set()
            changed += [f"[{key}] {name}" for name in value if name not in loose and old.get(key, {}).get(name) != value[name]]
        elif key not in free and old.get(key) != value:
            changed.append(key)
    if changed:
        raise InputError(
            f"{out} was begun with other {', '.join(changed)}", "give what it was begun with (config.toml in it), or choose another --out"
        )
