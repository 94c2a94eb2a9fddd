"""Deployment targets: a folder in ``export/``, a value on the command line and a recipe, all at once.

A recipe is TOML with a closed schema::

    backend = "onnx"            # a key of edgekit.backends.BACKENDS
    ensemble = "ap+lateral"     # or "best": the one chosen on validation
    sessions = ["onnxruntime"]  # what judges it: each that this machine has must pass, those it lacks are listed as unproven
    opset = 20                  # the backend's own settings
    processors = ["neon"]       # may be left out: emulated processors that run the golden vectors too; those that can't are unproven
    corners = "int8"            # may be left out: the bundle gets no corner finder. How its weights are stored, or "float32"

    [variants.w8a8]             # the first variant is the default; its name is its precision, behind the backend's where it has its own
    stages = { detector = "w8a8", geometry = "fp32", members = "w8a8", ensemble = "fp32" }
    judge = { basis = "statistical", margin = 0.01, agreement = 0.985 }     # or { basis = "numerical" }: every stage fp32
    calibration = { method = "minmax", patients = 128, changed = 0.004 }   # where a stage has 8-bit activations, and only there: float is
                                # given back to the worst blocks until at most this share of fresh patients is foreseen to get another brand
    float16 = { patients = 32, limit = 0.5 }    # may be left out, and only where a stage has float16 activations: the share of the
                                # largest float16, 65,504, that no layer may exceed on so many validation patients
    options = { activations = "uint8" }                                     # may be left out: the backend's defaults
    budget = { size_mb = 10.5 }                                             # may be left out; on the machine that exports also p50_ms, and
                                # gain = 1.02: at least so many times faster in 8 bits than the same graph in float

    [variants.litert-w8a8]      # a variant of another backend names it, what judges it, and that backend's own settings
    backend = "litert"
    sessions = ["litert"]
    stages = ...
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.backends import BACKENDS
from edgekit.errors import InputError, UsageError
from edgekit.graphs.corners import WEIGHTS as CORNER_WEIGHTS
from edgekit.graphs.places import STAGES
from edgekit.processors import CPUS
from edgekit.sessions import list_baselines
from edgekit.types import Calibration, Float16, Judge, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit.backends import Backend

PRECISIONS = ("fp32", "fp16", "w8a16", "w8a8")
"""Bits of the weights (w) and the activations (a); fp means both are floating point."""

RECIPE = "recipe.toml"


def list_targets() -> list[str]:
    """Return the names of the targets that this installation knows, sorted."""
    return sorted(path.parent.name for path in _targets_folder().glob(f"*/{RECIPE}"))


def list_variants(name: str, recipe: Path | None = None) -> list[str]:
    """Return the precisions that a target's recipe offers, the default first.

    Raises
    ------
    UsageError
        The target is unknown.
    InputError
        See `load_target`.
    """
    return list(_read_recipe(recipe or _find_target(name) / RECIPE)["variants"])


def load_target(spec: str, recipe: Path | None = None) -> Target:
    """Read one variant of a target.

    Parameters
    ----------
    spec
        ``name`` (the recipe's first variant) or ``name:precision``.
    recipe
        A recipe to use instead of the target's own.

    Raises
    ------
    UsageError
        The target or the variant is unknown.
    InputError
        The recipe is missing, not TOML, or breaks the schema.

    Examples
    --------
    >>> load_target("web:fp32").stages["members"]
    'fp32'
    """
    name, _, precision = spec.partition(":")
    return read_target(_find_target(name), precision, recipe)


def read_target(folder: Path, precision: str = "", recipe: Path | None = None, backends: Mapping[str, Backend] = BACKENDS) -> Target:
    """Read one variant of a target whose folder stands anywhere.

    Parameters
    ----------
    folder
        It has the target's name.
    precision
        The variant; empty takes the recipe's first.
    recipe
        See `load_target`.
    backends
        The backends that the recipe may name.

    Raises
    ------
    UsageError
        The variant is unknown.
    InputError
        See `load_target`.
    """
    name, path = folder.name, recipe or folder / RECIPE
    document = _read_recipe(path, backends)
    variants = document["variants"]
    if precision and precision not in variants:
        accepted = ", ".join(f"{name}:{variant}" for variant in variants)
        raise UsageError(f"target {name!r} has no variant {precision!r}", f"choose one of {accepted}")
    precision = precision or next(iter(variants))
    variant = variants[precision]
    source = find_source(document, precision)
    backend = backends[source["backend"]]
    return Target(
        name=name,
        precision=precision,
        folder=folder,
        recipe=path,
        backend=source["backend"],
        ensemble=document["ensemble"],
        sessions=tuple(source["sessions"]),
        settings={key: source[key] for key in backend.SETTINGS},
        stages=variant["stages"],
        judge=Judge(**variant["judge"]),
        calibration=Calibration(**variant["calibration"]) if "calibration" in variant else None,
        size_mb=variant.get("budget", {}).get("size_mb"),
        p50_ms=variant.get("budget", {}).get("p50_ms"),
        gain=variant.get("budget", {}).get("gain"),
        options={key: values[0] for key, values in backend.OPTIONS.items()} | variant.get("options", {}),
        corners=document.get("corners"),
        processors=tuple(document.get("processors", ())),
        float16=Float16(**variant["float16"]) if "float16" in variant else None,
    )


def find_source(recipe: Mapping[str, Any], variant: str) -> Mapping[str, Any]:
    """Return the table of a recipe that names a variant's backend, its sessions and settings: the variant's own, or the whole recipe."""
    own: Mapping[str, Any] = recipe["variants"][variant]
    return own if "backend" in own else recipe


def _find_target(name: str) -> Path:
    if name not in list_targets():
        raise UsageError(f"unknown target {name!r}", f"choose one of {', '.join(list_targets())}")
    return _targets_folder() / name


def _targets_folder() -> Path:
    """Return the folder of the targets: inside an installed package, else ``export/`` of the checkout."""
    package = Path(__file__).parent
    installed = package / "_targets"
    return installed if installed.is_dir() else package.parent / "export"


def _read_recipe(path: Path, backends: Mapping[str, Backend] = BACKENDS) -> dict[str, Any]:
    """Read a recipe and check all of it, also the variants that are not wanted now."""
    if not path.is_file():
        raise InputError(f"{path}: no such recipe", "give --recipe the path of a TOML file")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not TOML or UTF-8; numbers of 5,000 digits; 500 lists nested
        raise InputError(f"{path}: not valid TOML: {error}", "see the recipes in export/ for examples") from error
    check = _Check(path)
    check.choice("backend", document.get("backend"), tuple(backends))
    backend = backends[document["backend"]]
    expected = {"backend": str, "ensemble": str, "sessions": list, **backend.SETTINGS, "variants": dict}
    check.keys("", document, expected, {"processors": list, "corners": str})
    if "corners" in document:
        check.choice("corners", document["corners"], CORNER_WEIGHTS)
    check.sessions("sessions", document["sessions"], backend)
    check.processors("a processor", document, backend)
    if not document["variants"]:
        raise InputError(f"{path}: 'variants' is empty", "see the recipes in export/ for examples")
    for name, variant in document["variants"].items():
        own = variant.get("backend") if isinstance(variant, dict) else None
        if own is not None:
            check.choice(f"variants.{name}.backend", own, tuple(each for each in backends if each != document["backend"]))
        check.choice("the name of a variant", name, tuple(f"{own}-{each}" if own else each for each in PRECISIONS))
        check.variant(f"variants.{name}", variant, backends[own] if own else backend)
        if own:
            check.processors(f"a processor of variants.{name}", document, backends[own])
    return document


class _Check:
    """The closed schema: every complaint names the file, the key and what is accepted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def table(self, where: str, value: object) -> None:
        if not isinstance(value, dict):
            raise InputError(f"{self.path}: '{where}' is {value!r}, expected a table")

    def variant(self, where: str, variant: object, backend: Backend) -> None:
        self.table(where, variant)
        assert isinstance(variant, dict)
        optional: dict[str, type] = {"calibration": dict, "float16": dict, "options": dict, "budget": dict}
        own: dict[str, type] = {"backend": str, "sessions": list, **backend.SETTINGS} if "backend" in variant else {}
        self.keys(where, variant, {**own, "stages": dict, "judge": dict}, optional)
        if own:
            self.sessions(f"{where}.sessions", variant["sessions"], backend)
        self.keys(f"{where}.stages", variant["stages"], dict.fromkeys(STAGES, str))
        for stage, precision in variant["stages"].items():
            self.choice(f"{where}.stages.{stage}", precision, backend.PRECISIONS[stage])
        self.judge(f"{where}.judge", variant["judge"], set(variant["stages"].values()))
        self.calibration(where, variant)
        if "float16" in variant:
            self.float16(where, variant, backend)
        for key, value in variant.get("options", {}).items():
            self.choice(f"a key of {where}.options", key, tuple(backend.OPTIONS))
            self.choice(f"{where}.options.{key}", value, backend.OPTIONS[key])
        if "budget" in variant:
            self.keys(f"{where}.budget", variant["budget"], {}, {"size_mb": float, "p50_ms": float, "gain": float})
            if "gain" in variant["budget"] and not (list_baselines(backend.SESSIONS) and "w8a8" in variant["stages"].values()):
                problem = f"{where}.budget.gain needs 8-bit stages and a session that computes them in float"
                raise InputError(f"{self.path}: {problem}", "leave it out")

    def sessions(self, where: str, names: list[object], backend: Backend) -> None:
        if not names:
            raise InputError(f"{self.path}: '{where}' is empty", "see the recipes in export/ for examples")
        for name in names:
            self.choice("a session", name, tuple(backend.SESSIONS))

    def processors(self, where: str, document: dict[str, Any], backend: Backend) -> None:
        for processor in document.get("processors", ()):  # they hold for every variant
            self.choice(where, processor, tuple(CPUS) if backend.EMULATED else ())

    def keys(self, where: str, table: dict[str, Any], expected: dict[str, type], optional: dict[str, type] | None = None) -> None:
        known = {**expected, **(optional or {})}
        place, accepted = f" in '{where}'" if where else "", f"accepted keys: {', '.join(known)}"
        for key in table:
            if key not in known:
                raise InputError(f"{self.path}: unknown key {key!r}{place}", accepted)
        for key, kind in known.items():
            if key not in table:
                if key in expected:
                    raise InputError(f"{self.path}: key {key!r} is missing{place}", accepted)
                continue
            fits = isinstance(table[key], (int, float) if kind is float else kind)  # TOML tells 40 from 40.0, people don't
            if fits and kind is float:
                fits = abs(table[key]) <= sys.float_info.max  # not nan, inf or a whole number of 400 digits
            if not fits or isinstance(table[key], bool):
                raise InputError(f"{self.path}: {key!r}{place} is {table[key]!r}, expected {_KINDS[kind]}")

    def choice(self, where: str, value: object, accepted: tuple[str, ...]) -> None:
        if value not in accepted:
            raise InputError(f"{self.path}: {where} is {value!r}", f"accepted: {', '.join(accepted)}")

    def judge(self, where: str, table: dict[str, Any], precisions: set[str]) -> None:
        basis = table.get("basis")
        self.choice(f"{where}.basis", basis, ("numerical", "statistical"))
        if basis == "numerical":
            self.keys(where, table, {"basis": str})
            if precisions != {"fp32"}:
                raise InputError(f"{self.path}: {where} is numerical, but a stage is below fp32", 'use basis = "statistical"')
            return
        self.keys(where, table, {"basis": str, "margin": float, "agreement": float})
        for key in ("margin", "agreement"):
            if not 0 < table[key] < 1:
                raise InputError(f"{self.path}: {where}.{key} is {table[key]}, expected a fraction between 0 and 1")

    def calibration(self, where: str, variant: dict[str, Any]) -> None:
        quantized = "w8a8" in variant["stages"].values()
        if quantized != ("calibration" in variant):
            state = "is missing: a stage has 8-bit activations" if quantized else "is set, but no stage has 8-bit activations"
            raise InputError(f"{self.path}: '{where}.calibration' {state}", "see the recipes in export/ for examples")
        if not quantized:
            return
        table, where = variant["calibration"], f"{where}.calibration"
        self.keys(where, table, {"method": str, "patients": int, "changed": float})
        self.choice(f"{where}.method", table["method"], ("minmax", "average"))
        if table["patients"] < 1 or not 0 < table["changed"] < 1:
            raise InputError(f"{self.path}: {where} is {table}", "give patients from 1, and changed as a fraction between 0 and 1")

    def float16(self, where: str, variant: dict[str, Any], backend: Backend) -> None:
        if not set(backend.IN_HALVES) & set(variant["stages"].values()):
            raise InputError(f"{self.path}: '{where}.float16' is set, but no stage has float16 activations", "leave it out")
        table, where = variant["float16"], f"{where}.float16"
        self.keys(where, table, {"patients": int, "limit": float})
        if table["patients"] < 1 or not 0 < table["limit"] <= 1:
            raise InputError(f"{self.path}: {where} is {table}", "give patients from 1, and a limit above 0 and at most 1")


_KINDS: dict[type, str] = {str: "text", int: "a whole number", float: "a number", dict: "a table", list: "a list"}
