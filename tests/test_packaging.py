from __future__ import annotations

import ast
import inspect
import json
import os
import re
import statistics
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from edgekit import errors
from edgekit.types import DECISIONS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]

LAYERS = {
    0: "boxes contract cores errors files journal manifest processors progress proportions provenance radiograph reliability remembered "
    "straightening tables task types version",
    1: "backends canvases checked_boxes film_check formats graphs litert models phantom quantization rewriting sessions spellings studies "
    "targets",
    2: "app box_editor bundle calibration choosing deidentification demo doctor emulation evaluation further golden inference latency "
    "model_card packs parity proposals proven reading stress testing training",
    3: "cli __main__",
}
"""Rooms of each layer, bottom to top. Nothing imports upward."""

EXTRA = "demo evaluation further models phantom quantization straightening testing training"
EXTRA_MODULES = ("edgekit.sessions.coreml_reference.",)
"""Rooms and modules that need an extra. All others work in the base install: no package of an extra is imported at their module level."""


def read_modules() -> dict[str, ast.Module]:
    modules = {}
    for path in sorted((ROOT / "edgekit").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        modules[name] = ast.parse(path.read_text())
    return modules


MODULES = read_modules()
OWNERS = metadata.packages_distributions()


def is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def is_typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def list_imports(tree: ast.AST, *, lazy: bool, typing: bool) -> set[str]:
    """Full names that `tree` imports; `lazy`: also inside functions; `typing`: also under ``if TYPE_CHECKING``."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
        elif not (is_function(node) and not lazy) and not (is_typing_only(node) and not typing):
            found |= list_imports(node, lazy=lazy, typing=typing)
    return found


@cache
def draw_modules() -> dict[str, set[str]]:
    """Which modules each module imports: at its top, inside its functions and for its types alike.

    Importing `a.b.c` is importing `a.b`, except from inside `a.b`. The root package is left out: every module imports it.
    """
    graph = {}
    for module in MODULES.keys() - {"edgekit"}:
        names = list_imports(MODULES[module], lazy=True, typing=True) & MODULES.keys()
        packages = {".".join(name.split(".")[:depth]) for name in names for depth in range(2, name.count(".") + 1)}
        graph[module] = names | {package for package in packages if not module.startswith(f"{package}.")}
        graph[module] -= {module, "edgekit"}
    return graph


def draw_rooms(package: str) -> dict[str, set[str]]:
    """Which of the modules and packages that stand side by side in `package` import which, each with all that is in it."""

    def find_room(module: str) -> str:
        return ".".join(module.split(".")[: package.count(".") + 2])

    inside = {module: names for module, names in draw_modules().items() if module.startswith(f"{package}.")}
    graph: dict[str, set[str]] = {find_room(module): set() for module in inside}
    for module, names in inside.items():
        graph[find_room(module)] |= {find_room(name) for name in names & inside.keys()} - {find_room(module)}
    return graph


def list_circles(graph: dict[str, set[str]]) -> list[str]:
    """Circles, one import of each left out before the next is looked for."""
    left, circles = {name: set(imports) for name, imports in sorted(graph.items())}, []
    while True:
        try:
            TopologicalSorter({name: sorted(imports) for name, imports in left.items()}).prepare()
        except CycleError as error:
            circle = error.args[1][::-1]  # from who imports to who is imported
            circles.append(" -> ".join(circle))
            left[circle[0]].remove(circle[1])
        else:
            return circles


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def find_layer(module: str) -> int:
    found = [layer for layer, rooms in LAYERS.items() if room(module) in rooms.split()]
    assert found, f"say in LAYERS where {module} belongs"
    return found[0]


def list_distributions(extras: tuple[str, ...]) -> set[str]:
    lines = [line for extra in extras for line in (PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"])]
    return {Requirement(line).name.lower().replace("_", "-") for line in lines}


def list_third_party(imports: set[str]) -> set[str]:
    """Distributions that the imported names come from."""
    tops = {name.split(".")[0] for name in imports} - set(sys.stdlib_module_names) - {"edgekit"}
    return {OWNERS[top][0].lower().replace("_", "-") if top in OWNERS else top for top in tops}


# -- the shape of the code ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"edgekit"}))
def test_nothing_imports_upward(module):
    imports = list_imports(MODULES[module], lazy=True, typing=True)
    above = {name for name in imports if name.startswith("edgekit.") and find_layer(name) > find_layer(module)}
    assert not above, f"{module} imports from a layer above its own"
    assert "edgekit" not in imports, f"{module} imports the whole package, which stands above all"


def test_no_circles_between_modules():
    """Lazy and type-only imports count as others do: what needs one to break a circle stands in the wrong place."""
    circles = list_circles(draw_modules())
    assert not circles, "\n".join(circles)


@pytest.mark.parametrize("package", sorted({name.rpartition(".")[0] for name in MODULES} - {""}))
def test_no_circles_between_rooms(package):
    """The rooms of the house, and those of each house within it."""
    circles = list_circles(draw_rooms(package))
    assert not circles, "\n".join(circles)


BASE = sorted(name for name in MODULES if room(name) not in EXTRA.split() and not name.startswith(EXTRA_MODULES))


@pytest.mark.parametrize("module", BASE)
def test_base_modules_import_no_package_of_an_extra(module):
    imports = list_imports(MODULES[module], lazy=False, typing=False)
    assert list_third_party(imports) <= list_distributions(("",))


def test_every_import_is_declared():
    """Only who writes a backend needs the room of contracts, and has pytest."""
    contracts = {name for name in MODULES if room(name) == "testing"}
    imports = set().union(*(list_imports(MODULES[name], lazy=True, typing=True) for name in MODULES.keys() - contracts))
    assert list_third_party(imports) <= list_distributions(("", "train", "export", "litert", "app", "tensorrt"))
    imports = set().union(*(list_imports(MODULES[name], lazy=True, typing=True) for name in contracts))
    assert list_third_party(imports) <= list_distributions(("", "train", "export")) | {"pytest"}


def test_errors_lists_every_exception_with_its_exit_code():
    public = {name: value for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, BaseException)}
    assert sorted(public) == sorted(errors.__all__)
    assert {name: value.exit_code for name, value in public.items() if name != "EdgekitError"} == {
        "UsageError": 2,
        "GateError": 3,
        "InputError": 4,
        "FilmError": 4,
        "CalibrationError": 4,
        "MissingError": 5,
        "DamagedBundleError": 6,
    }
    assert all(name in str(errors.__doc__) for name in public)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="run it in a git clone")
def test_no_file_is_large():
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    sizes = {name: (ROOT / name).stat().st_size for name in names if name and (ROOT / name).is_file()}
    assert sizes
    assert {name: size for name, size in sizes.items() if size > 300_000} == {}


def test_constraints_pin_every_requirement_inside_its_range():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {Requirement(line).name.lower().replace("_", "-"): str(Requirement(line).specifier) for line in lines}
    assert all(pin.startswith("==") for pin in pins.values())
    extras = [extra for extra in PROJECT["optional-dependencies"] if extra not in ("all", "tensorrt")]
    for line in PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins[requirement.name.lower().replace("_", "-")].removeprefix("==")), line


# -- the wheel ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], check=True, capture_output=True, text=True)
    return next(folder.glob("*.whl"))


def test_wheel_has_what_is_needed_and_nothing_else(wheel):
    """Built from the sdist, so this also shows that the sdist is complete."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "edgekit").rglob("*.*") if "__pycache__" not in path.parts}
    data = {f"box_editor/page/{name}" for name in ("index.html", "editor.css", "editor.js")}
    data |= {"evaluation/report.html.j2", "evaluation/report.css", "reading/sheet.html.j2", "training/presets/demo.toml", "py.typed"}
    assert {f"edgekit/{name}" for name in data} <= package
    targets = {f"edgekit/_targets/{path.relative_to(ROOT / 'export').as_posix()}" for path in (ROOT / "export").rglob("*.*")}
    assert {"edgekit/_targets/web/recipe.toml", "edgekit/_targets/desktop-cpu/recipe.toml"} <= targets
    assert package | targets | {"edgekit/_app/README.md", "edgekit/_app/public/index.html"} <= names
    assert {name.split("/")[0] for name in names} == {"edgekit", f"edgekit_imaging-{metadata.version('edgekit-imaging')}.dist-info"}
    assert not [name for name in names if name.endswith((".pt", ".pth", ".onnx", ".safetensors", ".dcm", ".pyc")) or "tests" in name]
    if (ROOT / "sample_app" / "vendor").is_dir():  # npm ci has brought the browser's runtime
        vendored = ("onnxruntime-web/ort-wasm-simd-threaded.wasm", "dcmjs-codecs/dcmjs-native-codecs.wasm", "dcmjs-codecs/LICENSE")
        assert {f"edgekit/_app/vendor/{name}" for name in vendored} <= names
    with zipfile.ZipFile(wheel) as archive:
        own = [entry for entry in archive.infolist() if not entry.filename.startswith("edgekit/_app/vendor/")]
    assert sum(entry.compress_size for entry in own) < 1_000_000


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Command of a fresh environment with the wheel and the base dependencies only."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, capture_output=True)
    command = [*PIP, "--python", folder / "bin" / "python", "install", "--no-compile", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    return folder / "bin" / "edgekit"


def ask(command: Path, *words: object) -> str:
    """Run the installed command in a folder outside the checkout."""
    answer = subprocess.run([command, *map(str, words)], cwd=command.parent, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_base_install_has_no_training_package(installed):
    command = [*PIP, "--python", installed.parent / "python", "list", "--format=json"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    names = {package["name"].lower() for package in json.loads(listed)}
    assert {"edgekit-imaging", "onnxruntime", "pydicom"} <= names
    assert names.isdisjoint({"torch", "torchvision", "ultralytics", "timm", "scikit-learn", "scipy", "matplotlib", "onnx"})


def compare_seconds(command: Path, *words: object, needs: str) -> float:
    """Processor time of the installed command, as a multiple of what the same Python takes to import the packages that it `needs`.

    Both are measured in turn, five times, and their medians compared: a slow or busy machine slows both.
    """

    def measure(line: list[object]) -> float:
        before = os.times()
        subprocess.run([*map(str, line)], cwd=command.parent, check=True, capture_output=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    pairs = [(measure([command, *words]), measure([command.parent / "python", "-c", f"import {needs}"])) for _ in range(5)]
    return statistics.median(own for own, _ in pairs) / statistics.median(bare for _, bare in pairs)


def test_base_install_helps_quickly(installed):
    assert "predict" in ask(installed, "--help")
    assert compare_seconds(installed, "--help", needs="typer, rich.console") <= 2


def test_base_install_knows_what_it_can_do(installed):
    found = json.loads(ask(installed, "doctor", "--json"))
    assert all(package["usable"] for package in found["packages"] if not package["extra"])
    assert {target["name"] for target in found["targets"]} == {path.parent.name for path in (ROOT / "export").glob("*/recipe.toml")}
    assert all("torch" in target["missing"] for target in found["targets"])
    assert {target["name"] for target in found["targets"] if "onnxruntime" not in target["run"]} == {"android", "ios", "web"}
    assert found["advice"] == ["pip install 'edgekit-imaging[train,export,litert,app]'"]


def test_base_install_names_the_extra_that_is_missing(installed, tmp_path):
    answer = subprocess.run(
        [installed, "phantom", "cohort", tmp_path / "cohort", "--patients", "7"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 5, answer.stderr
    assert "pip install 'edgekit-imaging[train]'" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_nothing_tells_people_to_install_somebody_elses_package():
    """PyPI's `edgekit` is another project; ours is `edgekit-imaging`."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    texts = {name: (ROOT / name).read_bytes().decode("utf-8", "replace") for name in listed.split("\0") if name and (ROOT / name).is_file()}
    wrong = re.compile(r"""install\s+(?:-\S+\s+)*["'`]?edgekit(?![-\w/.])|(?<![-\w.])edgekit\[""")
    assert wrong.search("pip install --upgrade edgekit")
    assert wrong.search("pip install 'edgekit" + "[app]'")
    assert not {name: found.group() for name, text in texts.items() if (found := wrong.search(text)) and name != "tests/test_packaging.py"}


def test_base_install_predicts(installed, tiny_bundle, tmp_path):
    films = [tmp_path / "ap.png", tmp_path / "lateral.png"]
    for seed, film in enumerate(films):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (400, 300), np.uint8)).save(film)
    words = ["predict", tiny_bundle, "--ap", films[0], "--lateral", films[1], "--json"]
    answer = json.loads(ask(installed, *words))
    assert answer["schema"] == 1
    assert answer["decision"] in DECISIONS
    assert set(answer["views"]) == {"ap", "lateral"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert compare_seconds(installed, *words, needs="numpy, onnxruntime, PIL.Image, pydicom, rich.console, typer") <= 2.5
