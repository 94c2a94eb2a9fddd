"""Fixtures that several rooms use: a run with random weights, small enough to export in seconds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder: 3 brands, random weights, every member and ensemble, canvas 128."""
    from edgekit.testing.tiny import make_run

    return make_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_run` exported to desktop-cpu:fp32; it names no studies, so it is stamped not verified."""
    from edgekit.bundle import export_bundle
    from edgekit.targets import load_target

    return export_bundle(tiny_run, load_target("desktop-cpu:fp32"), tmp_path_factory.mktemp("bundles") / "tiny", force=True).folder


@pytest.fixture(scope="session")
def random_finder() -> Any:
    """A corner finder with random weights. It is sure of no film."""
    import torch

    from edgekit.models.corners import SIDE, CornerFinder
    from edgekit.testing.tiny import settle

    torch.manual_seed(3)
    return settle(CornerFinder(), SIDE, 255).eval()


@pytest.fixture(scope="session")
def web_bundle(tiny_bundle: Path, random_finder: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_bundle` with the web runner and `random_finder`. Whoever changes it takes a copy."""
    return add_web_runner(tiny_bundle, random_finder, tmp_path_factory.mktemp("web") / "bundle")


@pytest.fixture(scope="session")
def web_litert_bundle(litert_bundle: Path, random_finder: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`litert_bundle` with `random_finder`. Whoever changes it takes a copy."""
    return add_web_runner(litert_bundle, random_finder, tmp_path_factory.mktemp("web") / "litert")


def add_web_runner(bundle: Path, finder: Any, folder: Path) -> Path:
    """Copy a bundle with the web runner in place of its own, and a corner finder."""
    from edgekit.bundle import copy_runner
    from edgekit.graphs.corners import NAME, write_corner_finder
    from edgekit.manifest import open_bundle, seal_bundle
    from edgekit.targets import load_target

    manifest = open_bundle(bundle).manifest
    shutil.copytree(bundle, folder, ignore=shutil.ignore_patterns("runner"))
    copy_runner(load_target({"onnx": "web:onnx-fp32", "litert": "web:fp32"}[manifest.backend]), folder)
    model = f"{NAME}{Path(manifest.model).suffix}"
    write_corner_finder(finder, folder / model, "float32")
    seal_bundle(folder, replace(manifest, corners={"model": model, "side": finder.side, "weights": "float32"}))
    return folder


@pytest.fixture(scope="session")
def web_runtime() -> dict[str, dict[str, Path]]:
    """The files of each runtime for browsers, by backend and name."""
    from edgekit.sessions.vendored import RUNTIMES, find_runtime

    with needed():
        return {backend: find_runtime(backend) for backend in RUNTIMES}


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The program Chromium."""
    from edgekit.sessions.browser import find_browser

    with needed():
        return find_browser()


@pytest.fixture(scope="module")
def launch(chromium_path: str) -> Iterator[Callable[..., Any]]:
    """A module's own Playwright: while one is open, no browser session of the other tests can open another."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield lambda *arguments: playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox", *arguments])


@pytest.fixture(scope="module")
def chromium(launch: Callable[..., Any]) -> Iterator[Any]:
    browser = launch()
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def node_path() -> str:
    """The program Node, which runs the phone app's modules outside of a browser."""
    from edgekit.errors import MissingError

    with needed():
        if (path := shutil.which("node")) is None:
            raise MissingError("Node is not on the PATH", "apt-get install nodejs")
        return path


@pytest.fixture(scope="session")
def codecs_path() -> Path:
    """The WebAssembly that decodes films in the phone app."""
    from edgekit.sessions.vendored import find_codecs

    with needed():
        return find_codecs()


@pytest.fixture(scope="session")
def android_json() -> Path:
    """Android's org.json, as a jar."""
    from edgekit.errors import MissingError

    with needed():
        path = Path("/usr/share/java/com.android.json.jar")
        if not path.is_file():
            raise MissingError(f"there is no {path}", "apt-get install libandroid-json-java")
        return path


@pytest.fixture(scope="session")
def kotlin_jars() -> Path:
    """The folder of the Kotlin compiler's jars; there is a JDK, too."""
    from importlib.util import find_spec

    from edgekit.errors import MissingError

    with needed():
        if shutil.which("javac") is None:
            raise MissingError("javac is not on the PATH", "apt-get install openjdk-17-jdk-headless")
        package = find_spec("run_kotlin_kernel")
        if package is None or package.origin is None:
            raise MissingError("there is no Kotlin compiler", "pip install kotlin-jupyter-kernel")
        return Path(package.origin).parent / "jars"


@pytest.fixture(scope="session")
def qemu() -> str:
    """The program that is another x86-64 processor."""
    from edgekit.emulation.machines import find_qemu

    with needed():
        return find_qemu("x86_64")


@contextmanager
def needed() -> Iterator[None]:
    """Skip where something is missing; where everything is meant to be there, fail."""
    from edgekit.errors import MissingError

    try:
        yield
    except MissingError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(f"{error.message}; {error.remedy}")


@pytest.fixture(scope="session")
def eight_bit_bundle(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_run` exported to desktop-cpu:w8a8, everything in 8 bits; too few films judged it, so it is stamped not verified."""
    from edgekit.bundle import export_bundle
    from edgekit.targets import load_target
    from edgekit.testing.tiny import add_studies

    folder = tmp_path_factory.mktemp("eight-bit")
    run = shutil.copytree(tiny_run, folder / "run", ignore=shutil.ignore_patterns(".references"))
    add_studies(run)
    target = load_target("desktop-cpu")
    (folder / "mine.toml").write_text(target.recipe.read_text().replace("changed = 0.004", "changed = 0.99").replace(', "openvino"', ""))
    return export_bundle(run, load_target("desktop-cpu", folder / "mine.toml"), folder / "bundle", force=True).folder


@pytest.fixture(scope="session")
def litert_bundle(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_run` exported for LiteRT in float; it names no studies, so it is stamped not verified."""
    from edgekit.bundle import export_bundle
    from edgekit.targets import load_target

    pytest.importorskip("ai_edge_litert.interpreter", reason="pip install 'edgekit-imaging[litert]' runs this")
    target = replace(load_target("web:fp32"), sessions=("litert",), corners=None)  # browsers have tests of their own
    return export_bundle(tiny_run, target, tmp_path_factory.mktemp("litert") / "bundle", force=True).folder


@pytest.fixture(scope="session")
def tiny_front_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder of another task: hip stems on one view, `front`, whole films without a detector; random weights, canvas 128."""
    from edgekit.testing.tiny import make_front_run

    return make_front_run(tmp_path_factory.mktemp("runs") / "front")


@pytest.fixture(scope="session")
def tiny_front_bundle(tiny_front_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_front_run` exported to desktop-cpu:fp32; it names no studies, so it is stamped not verified."""
    from edgekit.bundle import export_bundle
    from edgekit.targets import load_target

    target = replace(load_target("desktop-cpu:fp32"), ensemble="best")
    return export_bundle(tiny_front_run, target, tmp_path_factory.mktemp("bundles") / "front", force=True).folder


@pytest.fixture(scope="session")
def web_front_bundle(tiny_front_bundle: Path, random_finder: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_front_bundle` with the web runner and `random_finder`. Whoever changes it takes a copy."""
    return add_web_runner(tiny_front_bundle, random_finder, tmp_path_factory.mktemp("web") / "front")
