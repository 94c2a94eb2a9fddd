"""Fixtures that several rooms use: a run with random weights, small enough to export in seconds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BRANDS = ("design-a", "design-b", "design-c")


def settle(module: Any, side: int, lightest: float = 1.0) -> Any:
    """Give BatchNorm the statistics of real activations: a fresh network answers every film alike."""
    import torch

    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    smooth = torch.nn.functional.interpolate(torch.rand(16, 1, side // 8, side // 8), scale_factor=8, mode="bilinear")
    module.train()(lightest * smooth)
    return module


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder: 3 brands, random weights, every member and ensemble, canvas 128."""
    import torch

    from edgekit.files import write_json
    from edgekit.models import runfolder
    from edgekit.models.classifier import MEMBERS, Classifier
    from edgekit.models.detector import Detector
    from edgekit.models.ensemble import EVALUABLE, Case, Ensemble

    torch.manual_seed(0)
    random = np.random.default_rng(0)
    run = tmp_path_factory.mktemp("runs") / "tiny"
    run.mkdir()

    detector = settle(Detector("relu", 64, "yolov5n"), 64)
    head = detector.network.model[-1]
    for branch in [*head.cv2, *head.cv3]:
        torch.nn.init.normal_(branch[-1].weight, std=0.01)
    runfolder.save_detector(run, detector, box_threshold=0.0)
    for name in MEMBERS:
        member = settle(Classifier("efficientnet_lite0", len(BRANDS)), 64)
        member.network.get_classifier().weight.data *= 0.1  # random features are large: keep the softmax out of saturation
        runfolder.save_weights(run / f"member_{name}.safetensors", member)

    def ensemble(name: str, members: tuple[str, ...]) -> Ensemble:
        fitted = {}
        for case, evaluable in EVALUABLE.items():
            used = tuple(member for member in members if member in evaluable)
            if used:
                coefficients = random.normal(size=(len(BRANDS), len(used) * len(BRANDS))).astype(np.float32) * 3
                intercepts = random.normal(size=len(BRANDS)).astype(np.float32)
                fitted[case] = Case(used, coefficients, intercepts, 1.0, 0.2, 0.9)
        return Ensemble(name, members, fitted, 1.0)

    runfolder.save_ensembles(
        run,
        [
            ensemble("ap", ("ap",)),
            ensemble("lateral", ("lateral",)),
            ensemble("ap+lateral", ("ap", "lateral")),
            ensemble("all", MEMBERS),
        ],
    )
    runfolder.save_settings(
        run,
        runfolder.RunSettings(
            brands=BRANDS,
            canvas_side=128,
            crop_side=64,
            architectures=dict.fromkeys(MEMBERS, "efficientnet_lite0"),
            ensemble="ap+lateral",
            view_margin=0.3,
            coverage=0.95,
        ),
    )
    write_json(run / "provenance.json", {"studies": {"path": "", "sha256": ""}})
    return run


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

    torch.manual_seed(3)
    return settle(CornerFinder(), SIDE, 255).eval()


@pytest.fixture(scope="session")
def web_bundle(tiny_bundle: Path, random_finder: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_bundle` with the web runner and `random_finder`. Whoever changes it takes a copy."""
    from edgekit.graphs.corners import MODEL, write_corner_finder
    from edgekit.manifest import seal_bundle
    from edgekit.targets import load_target

    folder = tmp_path_factory.mktemp("web") / "bundle"
    shutil.copytree(tiny_bundle, folder, ignore=shutil.ignore_patterns("runner"))
    shutil.copytree(load_target("web").folder / "runner", folder / "runner")
    write_corner_finder(random_finder, folder / MODEL, "float32")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    del manifest["manifest_sha256"]
    seal_bundle(folder, {**manifest, "corners": {"model": MODEL, "side": random_finder.side, "weights": "float32"}})
    return folder


@pytest.fixture(scope="session")
def web_runtime() -> Path:
    """The folder of onnxruntime-web."""
    from edgekit.sessions.browser import find_runtime

    with needed():
        return find_runtime()


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
    from edgekit.sessions.browser import find_codecs

    with needed():
        return find_codecs()


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
    from PIL import Image

    from edgekit.bundle import export_bundle
    from edgekit.files import hash_file, write_json
    from edgekit.studies import write_studies
    from edgekit.targets import load_target
    from edgekit.types import Study

    folder, random, rows = tmp_path_factory.mktemp("eight-bit"), np.random.default_rng(2), []
    for number, split in enumerate((*["validation"] * 4, "test")):
        films = {view: folder / f"{number}-{view}.png" for view in ("ap", "lateral")}
        for path in films.values():
            Image.fromarray(random.integers(0, 256, (128, 128), np.uint8)).save(path)
        rows.append(Study(f"p{number}", BRANDS[number % 2], split=split, **films))
    write_studies(folder / "studies.csv", rows)
    run = shutil.copytree(tiny_run, folder / "run", ignore=shutil.ignore_patterns(".references"))
    write_json(run / "provenance.json", {"studies": {"path": "../studies.csv", "sha256": hash_file(folder / "studies.csv")}})
    target = load_target("desktop-cpu")
    (folder / "mine.toml").write_text(target.recipe.read_text().replace("changed = 0.004", "changed = 0.99").replace(', "openvino"', ""))
    return export_bundle(run, load_target("desktop-cpu", folder / "mine.toml"), folder / "bundle", force=True).folder
