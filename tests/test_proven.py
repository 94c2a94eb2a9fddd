"""The processors that a bundle is proven on, and the file that lists them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from resealing import read_manifest

from edgekit import proven
from edgekit.cli import run as edgekit
from edgekit.errors import DamagedBundleError
from edgekit.manifest import CARD, PROCESSORS, open_bundle, seal_bundle
from edgekit.proven import prove_by_golden, prove_by_saturation, record_proof, unproven_here
from edgekit.types import Bundle

HASWELL = {"name": "Haswell", "architecture": "x86_64", "features": ["sse4_1", "avx2"], "threads": 1, "emulated": "haswell"}


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def eight_bits(bundle: Bundle) -> Bundle:
    """The same, stated to be in 8 bits."""
    manifest = read_manifest(bundle.folder)
    return seal_bundle(bundle.folder, replace(manifest, stages={**manifest.stages, "members": "w8a8"}))


def row(n: int, **changes: Any) -> dict[str, Any]:
    return {**prove_by_golden(HASWELL, "onnxruntime", "onnxruntime 1.32"), "n": n, **changes}


def test_a_proof_changes_the_list_and_the_card_and_nothing_else(bundle: Bundle) -> None:
    before = {path: path.read_bytes() for path in bundle.folder.rglob("*") if path.is_file()}
    opened = record_proof(bundle, [row(150)], [])
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed == {CARD, PROCESSORS}
    assert [(each["cpu"], each["n"]) for each in opened.processors] == [("Haswell", 150)]
    (line,) = [line for line in (bundle.folder / CARD).read_text().splitlines() if line.startswith("| x86_64 |")]
    assert "| sse4_1 avx2 | Haswell | onnxruntime | onnxruntime 1.32 | emulated | 150 | PASS |" in line


def test_patients_outlast_golden_vectors_and_a_failure_ends_both(bundle: Bundle) -> None:
    opened = record_proof(bundle, [row(150)], [])
    opened = record_proof(opened, [row(0)], [])
    assert [each["n"] for each in opened.processors] == [150]
    opened = record_proof(opened, [row(48)], [])
    assert [each["n"] for each in opened.processors] == [48]
    opened = record_proof(opened, [row(7, session="openvino")], [("onnxruntime", HASWELL)])
    assert [each["session"] for each in opened.processors] == ["openvino"]


@pytest.mark.parametrize("name", [CARD, PROCESSORS])
def test_what_stands_beside_the_manifest_can_be_neither_changed_nor_left_out(bundle: Bundle, name: str) -> None:
    path = bundle.folder / name
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 40)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(DamagedBundleError, match=name):
            open_bundle(bundle.folder)
    path.unlink()
    with pytest.raises(DamagedBundleError, match=f"'{name}' is missing"):
        open_bundle(bundle.folder)


def test_the_list_of_another_model_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    other = shutil.copytree(bundle.folder, tmp_path / "other")
    manifest = read_manifest(other)
    seal_bundle(other, replace(manifest, model_sha256="0" * 64), [row(1500)])
    shutil.copy(other / PROCESSORS, bundle.folder / PROCESSORS)
    with pytest.raises(DamagedBundleError, match="belongs to another bundle"):
        open_bundle(bundle.folder)


@pytest.mark.parametrize(
    ("saturation", "count"),
    [
        ({"layers": 145, "can_overflow": [], "largest_pair_sum": 32640, "limit": 32767}, len(proven.NOT_EMULATED)),
        ({"layers": 145, "can_overflow": ["conv"], "largest_pair_sum": 64770, "limit": 32767}, 0),
        ({"layers": 0, "can_overflow": [], "largest_pair_sum": 0, "limit": 32767}, 0),
        (None, 0),
    ],
)
def test_what_is_not_executed_is_proved_where_nothing_can_overflow(bundle: Bundle, saturation: Any, count: int) -> None:
    graph = {key: value for key, value in bundle.manifest.graph.items() if key != "saturation"}
    rows = prove_by_saturation(replace(bundle.manifest, graph={**graph, **({"saturation": saturation} if saturation else {})}))
    assert len(rows) == count
    assert {each["basis"] for each in rows} <= {"proved, not executed"}
    assert all({"avx512bw", "avx_vnni", "i8mm"} & set(each["features"]) for each in rows)


def test_nothing_is_proved_of_litert_without_running_it(bundle: Bundle) -> None:
    """The bound is that of onnxruntime's kernels."""
    safe = {"layers": 145, "can_overflow": [], "largest_pair_sum": 32640, "limit": 32767}
    manifest = replace(bundle.manifest, graph={**bundle.manifest.graph, "saturation": safe})
    assert prove_by_saturation(manifest)
    assert prove_by_saturation(replace(manifest, backend="litert", sessions=("litert",))) == []


def test_the_card_explains_the_proofs_that_it_lists_and_no_others(bundle: Bundle) -> None:
    record_proof(bundle, [row(150)], [])
    card = (bundle.folder / CARD).read_text()
    assert "*Emulated*: the file answered in an emulator of it." in card
    assert "*Proved, not executed*" not in card
    record_proof(open_bundle(bundle.folder), [row(0, basis=proven.PROVED, features=["sse4_1", "avx2", "avx_vnni"])], [])
    assert "*Emulated*: the file answered in an emulator of it. *Proved, not executed*: no sum" in (bundle.folder / CARD).read_text()


def test_predict_says_once_that_this_processor_is_not_proven(
    eight_bits: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    film = tmp_path / "ap.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128), np.uint8)).save(film)
    words = ["predict", str(eight_bits.folder), "--ap", str(film), "--json"]
    assert edgekit(words) == 0
    first = capsys.readouterr()
    assert "warning: in onnxruntime this bundle is proven on no processor like this one" in first.err
    assert f"edgekit verify {eight_bits.folder} STUDIES" in first.err
    assert "proven" not in first.out
    assert edgekit(words) == 0
    assert "proven" not in capsys.readouterr().err


def test_nothing_is_said_where_it_is_proven_or_nothing_is_in_8_bits(
    bundle: Bundle, eight_bits: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = proven.describe_processor(1)
    assert unproven_here(bundle, "onnxruntime") is None  # every stage is float
    assert unproven_here(eight_bits, "coreml") is None
    opened = record_proof(eight_bits, [prove_by_golden(here, "onnxruntime", "")], [])
    assert unproven_here(opened, "onnxruntime") is None
    assert unproven_here(opened, "openvino") is not None
