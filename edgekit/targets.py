"""Deployment targets: a folder in ``export/``, a value on the command line and a recipe, all at once.

A recipe is TOML with a closed schema::

    backend = "onnx"            # a key of edgekit.backends.BACKENDS
    ensemble = "ap+lateral"     # or "best": the one chosen on validation
    opset = 20

    [variants.fp32]             # the first variant is the default; its name is its precision
    stages = { detector = "fp32", geometry = "fp32", members = "fp32", ensemble = "fp32" }
    judge = { basis = "numerical" }     # or { basis = "statistical", margin = 0.01, agreement = 0.985 }
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from edgekit.backends import BACKENDS
from edgekit.errors import InputError, UsageError
from edgekit.types import Judge, Target

PRECISIONS = ("fp32", "fp16", "w8a16", "w8a8")
"""Bits of the weights (w) and the activations (a); fp means both are floating point."""

STAGES = ("detector", "geometry", "members", "ensemble")
RECIPE = "recipe.toml"


def list_targets() -> list[str]:
    """Return the names of the targets that this installation knows, sorted."""
    return sorted(path.parent.name for path in _targets_folder().glob(f"*/{RECIPE}"))


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
    if name not in list_targets():
        raise UsageError(f"unknown target {name!r}", f"choose one of {', '.join(list_targets())}")
    folder = _targets_folder() / name
    path = recipe or folder / RECIPE
    document = _read_recipe(path)
    variants = document["variants"]
    if precision and precision not in variants:
        accepted = ", ".join(f"{name}:{variant}" for variant in variants)
        raise UsageError(f"target {name!r} has no variant {precision!r}", f"choose one of {accepted}")
    precision = precision or next(iter(variants))
    return Target(
        name=name,
        precision=precision,
        folder=folder,
        recipe=path,
        backend=document["backend"],
        stages=variants[precision]["stages"],
        ensemble=document["ensemble"],
        opset=document["opset"],
        judge=Judge(**variants[precision]["judge"]),
    )


def _targets_folder() -> Path:
    """Return the folder of the targets: inside an installed package, else ``export/`` of the checkout."""
    package = Path(__file__).parent
    installed = package / "_targets"
    return installed if installed.is_dir() else package.parent / "export"


def _read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe and check all of it, also the variants that are not wanted now."""
    if not path.is_file():
        raise InputError(f"{path}: no such recipe", "give --recipe the path of a TOML file")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    check = _Check(path)
    check.keys("", document, {"backend": str, "ensemble": str, "opset": int, "variants": dict})
    check.choice("backend", document["backend"], tuple(BACKENDS))
    if not document["variants"]:
        raise InputError(f"{path}: 'variants' is empty", f"give it a table such as [variants.{PRECISIONS[0]}]")
    for name, variant in document["variants"].items():
        where = f"variants.{name}"
        check.choice("the name of a variant", name, PRECISIONS)
        check.table(where, variant)
        check.keys(where, variant, {"stages": dict, "judge": dict})
        check.keys(f"{where}.stages", variant["stages"], dict.fromkeys(STAGES, str))
        for stage, precision in variant["stages"].items():
            check.choice(f"{where}.stages.{stage}", precision, PRECISIONS)
        check.judge(f"{where}.judge", variant["judge"], set(variant["stages"].values()))
    return document


class _Check:
    """The closed schema: every complaint names the file, the key and what is accepted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def table(self, where: str, value: object) -> None:
        if not isinstance(value, dict):
            raise InputError(f"{self.path}: '{where}' is {value!r}, expected a table")

    def keys(self, where: str, table: dict[str, Any], expected: dict[str, type]) -> None:
        place, accepted = f" in '{where}'" if where else "", f"accepted keys: {', '.join(expected)}"
        for key in table:
            if key not in expected:
                raise InputError(f"{self.path}: unknown key {key!r}{place}", accepted)
        for key, kind in expected.items():
            if key not in table:
                raise InputError(f"{self.path}: key {key!r} is missing{place}", accepted)
            if not isinstance(table[key], kind) or isinstance(table[key], bool):
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


_KINDS: dict[type, str] = {str: "text", int: "a whole number", float: "a number with a point", dict: "a table"}
