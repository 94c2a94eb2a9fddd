from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from edgekit.errors import InputError
from edgekit.manifest import open_bundle
from edgekit.packs import read_outputs, write_chunks, write_pack
from edgekit.parity import judge_recording
from edgekit.parity.recording import join_recordings
from edgekit.types import Bundle, Study

RECORDED = ("probabilities", "members", "boxes", "box_scores", "found", "view_scores", "prediction_set", "unfamiliarity", "decision")


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns(".references"))


@pytest.fixture
def studies(tmp_path: Path) -> list[Study]:
    """Four patients on films of canvas size, so that a film is its canvas: both films, AP only, lateral only, both."""
    random = np.random.default_rng(1)
    for number in range(6):
        Image.fromarray(random.integers(0, 256, (128, 128), np.uint8)).save(tmp_path / f"{number}.png")
    film = [tmp_path / f"{number}.png" for number in range(6)]
    return [
        Study("p0", "design-a", films={"ap": film[0], "lateral": film[1]}),
        Study("p1", "design-b", films={"ap": film[2], "lateral": None}),
        Study("p2", "design-c", films={"ap": None, "lateral": film[3]}),
        Study("p3", "design-a", films={"ap": film[4], "lateral": film[5]}),
    ]


def answer(pack: Path, bundle: Bundle, out: Path, /, **changes: Any) -> Path:
    """What a runner does, with numpy and onnxruntime alone."""
    session = onnxruntime.InferenceSession(str(bundle.model), providers=["CPUExecutionProvider"])
    side, answers = bundle.canvas_side, []
    with np.load(pack, allow_pickle=False) as arrays:
        for row, present in enumerate(arrays["present"]):
            inputs: dict[str, Any] = {"present": present}
            for view in ("ap", "lateral"):
                name = f"{view}_{row:06d}"
                inputs[view] = (arrays[name] if name in arrays else np.zeros((side, side), np.uint8))[None, None]
            answers.append(session.run(list(RECORDED), inputs))
        document: dict[str, Any] = {
            "schema": np.array(1),
            "bundle": arrays["bundle"],
            "pack": arrays["pack"],
            "session": np.array("onnxruntime"),
            "runtime": np.array(f"onnxruntime {onnxruntime.__version__} on a test device"),
            **{name: np.stack(column) for name, column in zip(RECORDED, zip(*answers, strict=True), strict=True)},
        }
    np.savez(out, **{name: value for name, value in {**document, **changes}.items() if value is not None})
    return out


def test_a_pack_is_read_with_numpy_alone(bundle: Bundle, studies: list[Study], tmp_path: Path) -> None:
    pack = tmp_path / "packs" / "canvases.npz"
    identity = write_pack(bundle, studies, pack)
    model = hashlib.sha256(bundle.model.read_bytes()).hexdigest()
    with np.load(pack, allow_pickle=False) as arrays:
        assert set(arrays) == {
            *("schema", "bundle", "pack", "present"),
            *("ap_000000", "lateral_000000", "ap_000001", "lateral_000002", "ap_000003", "lateral_000003"),
        }
        assert (int(arrays["schema"]), str(arrays["bundle"]), str(arrays["pack"])) == (1, model, identity)
        assert arrays["present"].dtype == np.float32
        assert arrays["present"].tolist() == [[1, 1], [1, 0], [0, 1], [1, 1]]
        for name, film in (("ap_000000", studies[0].film("ap")), ("lateral_000002", studies[2].film("lateral"))):
            assert arrays[name].dtype == np.uint8
            np.testing.assert_array_equal(arrays[name], np.asarray(Image.open(str(film))))
    with zipfile.ZipFile(pack) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_DEFLATED}


def test_the_identity_is_the_hash_of_what_the_contract_says(bundle: Bundle, studies: list[Study], tmp_path: Path) -> None:
    digest = hashlib.sha256(b"128\n")
    for study in studies:
        digest.update(np.array([study.film("ap") is not None, study.film("lateral") is not None], np.float32).tobytes())
        for film in (study.film("ap"), study.film("lateral")):
            if film is not None:
                digest.update(np.asarray(Image.open(film)).tobytes())
    assert write_pack(bundle, studies, tmp_path / "pack.npz") == digest.hexdigest()


def test_the_same_films_give_the_same_bytes_and_others_another_identity(bundle: Bundle, studies: list[Study], tmp_path: Path) -> None:
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    identity = write_pack(bundle, studies, first)
    assert write_pack(bundle, studies, second) == identity
    assert first.read_bytes() == second.read_bytes()
    swapped = [*studies[:3], Study("p3", "design-a", films={"ap": studies[3].film("lateral"), "lateral": studies[3].film("ap")})]
    for other in (studies[::-1], studies[:3], swapped):
        assert write_pack(bundle, other, second) != identity


def test_no_half_pack_is_left_and_none_is_put_inside_a_bundle(bundle: Bundle, studies: list[Study], tmp_path: Path) -> None:
    pack = tmp_path / "packs" / "canvases.npz"
    with pytest.raises(InputError, match=r"missing\.png"):
        write_pack(bundle, [*studies, Study("p4", films={"ap": tmp_path / "missing.png", "lateral": None})], pack)
    assert list(pack.parent.iterdir()) == []
    with pytest.raises(InputError, match="at least one row"):
        write_pack(bundle, [], pack)
    with pytest.raises(InputError, match="inside the bundle"):
        write_pack(bundle, studies, bundle.folder / "canvases.npz")


def test_what_a_device_answers_is_judged(bundle: Bundle, run: Path, studies: list[Study], tmp_path: Path) -> None:
    pack = tmp_path / "canvases.npz"
    identity = write_pack(bundle, studies, pack)
    answers = read_outputs(answer(pack, bundle, tmp_path / "outputs.npz"), bundle, len(studies))
    parity = judge_recording(bundle, run, studies, answers)
    assert (parity.verdict, parity.negative_control, parity.flips) == ("PASS", "FAIL", 0)
    assert (parity.session, parity.pack, parity.n) == ("onnxruntime", identity, 4)
    assert parity.runtime.endswith("on a test device")


def test_the_answers_of_other_patients_fail(bundle: Bundle, run: Path, studies: list[Study], tmp_path: Path) -> None:
    pack = tmp_path / "canvases.npz"
    write_pack(bundle, studies, pack)
    outputs = answer(pack, bundle, tmp_path / "outputs.npz")
    with np.load(outputs) as arrays:
        permuted = {name: array[[3, 0, 1, 2]] if name in RECORDED else array for name, array in arrays.items()}
    np.savez(outputs, **permuted)
    parity = judge_recording(bundle, run, studies, read_outputs(outputs, bundle, len(studies)))
    assert parity.verdict == "FAIL"
    assert parity.max_probability_error > 0.01


def test_a_device_that_answers_no_numbers_fails(bundle: Bundle, run: Path, studies: list[Study], tmp_path: Path) -> None:
    pack = tmp_path / "canvases.npz"
    write_pack(bundle, studies, pack)
    broken = answer(pack, bundle, tmp_path / "outputs.npz", probabilities=np.full((4, 3), np.nan, np.float32))
    parity = judge_recording(bundle, run, studies, read_outputs(broken, bundle, len(studies)))
    assert (parity.verdict, parity.flips) == ("FAIL", 4)


def test_answers_for_films_that_changed_since_are_refused(bundle: Bundle, run: Path, studies: list[Study], tmp_path: Path) -> None:
    pack = tmp_path / "canvases.npz"
    write_pack(bundle, studies, pack)
    answers = read_outputs(answer(pack, bundle, tmp_path / "outputs.npz"), bundle, len(studies))
    assert judge_recording(bundle, run, studies, answers).verdict == "PASS"  # the reference is kept from here on
    with pytest.raises(InputError, match="other canvases"):
        judge_recording(bundle, run, [studies[3], *studies[1:3], studies[0]], answers)
    Image.fromarray(np.tile(np.arange(128, dtype=np.uint8), (128, 1))).save(str(studies[1].film("ap")))
    with pytest.raises(InputError, match="other canvases"):
        judge_recording(bundle, run, studies, answers)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip(path: Path) -> None:
    content = path.read_bytes()
    place = content.index(b"members.npy") + 200
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


def repeat(path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("boxes.npy", b"")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": np.array(2)}, "schema 2"),
        ({"schema": np.array("1")}, "'schema' is"),
        ({"bundle": np.array("0" * 64)}, "another model: 000000000000"),
        ({"boxes": None}, "lacks boxes"),
        ({"heatmaps": np.zeros(3)}, "unknown entries heatmaps"),
        ({"probabilities": np.zeros((5, 3), np.float32)}, "answers 5 rows, the studies have 4"),
        ({"probabilities": np.zeros((4, 3), np.float64)}, "'probabilities' is float64"),
        ({"probabilities": np.zeros((4, 9), np.float32)}, r"'probabilities' is float32 \(4, 9\), expected float32 \(N, 3\)"),
        ({"decision": np.zeros((4, 1), np.float32)}, "'decision' is float32"),
        ({"members": np.zeros((4, 3, 3), np.float32)}, r"'members' is float32 \(4, 3, 3\), expected float32 \(4, 2, 3\)"),
        ({"boxes": np.array([{}, {}, {}, {}], object)}, "'boxes' is not a plain array: .*pickle"),
        ({"session": np.array("\x1b[2J")}, "'session' is .* expected printable text"),
        ({"runtime": np.array("x" * 501)}, "'runtime' is"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(
    bundle: Bundle, studies: list[Study], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    pack = tmp_path / "canvases.npz"
    write_pack(bundle, studies, pack)
    with pytest.raises(InputError, match=message):
        read_outputs(answer(pack, bundle, tmp_path / "outputs.npz", **changes), bundle, len(studies))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "damaged or not an .npz file"),
        (flip, "damaged or not an .npz file"),
        (repeat, "an entry twice"),
        (lambda path: path.write_bytes(b"hello"), "damaged or not an .npz file"),
        (Path.unlink, "no such file"),
    ],
    ids=["cut short", "a changed byte", "an entry twice", "no zip", "missing"],
)
def test_damaged_outputs_are_refused(
    bundle: Bundle, studies: list[Study], tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    pack = tmp_path / "canvases.npz"
    write_pack(bundle, studies, pack)
    outputs = answer(pack, bundle, tmp_path / "outputs.npz")
    damage(outputs)
    with pytest.raises(InputError, match=message):
        read_outputs(outputs, bundle, len(studies))


def test_an_entry_that_claims_to_be_huge_takes_no_memory(bundle: Bundle, studies: list[Study], tmp_path: Path) -> None:
    pack = tmp_path / "canvases.npz"
    write_pack(bundle, studies, pack)
    outputs = answer(pack, bundle, tmp_path / "outputs.npz", boxes=None)
    with zipfile.ZipFile(outputs, "a", zipfile.ZIP_DEFLATED) as archive:
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2, 1000000000000), }"
        archive.writestr("boxes.npy", b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(117) + b"\n")
    with pytest.raises(InputError, match="'boxes' is not a plain array"):
        read_outputs(outputs, bundle, len(studies))


def test_chunks_hold_the_rows_of_the_whole_and_their_answers_join_to_its(
    bundle: Bundle, run: Path, studies: list[Study], tmp_path: Path
) -> None:
    whole = write_pack(bundle, studies, tmp_path / "whole.npz")
    chunks, identity = write_chunks(bundle, studies, tmp_path / "chunks", 3)
    assert identity == whole
    assert [(chunk.rows, chunk.pack) for chunk in chunks] == [
        (3, write_pack(bundle, studies[:3], tmp_path / "first.npz")),
        (1, write_pack(bundle, studies[3:], tmp_path / "rest.npz")),
    ]
    parts = [read_outputs(answer(chunk.path, bundle, tmp_path / f"{chunk.pack}.npz"), bundle, chunk.rows) for chunk in chunks]
    joined = join_recordings(parts, identity)
    expected = read_outputs(answer(tmp_path / "whole.npz", bundle, tmp_path / "outputs.npz"), bundle, 4)
    assert all(np.array_equal(joined.outputs[name], expected.outputs[name]) for name in RECORDED)
    assert judge_recording(bundle, run, studies, joined).verdict == "PASS"


def test_a_device_may_say_what_it_ran_on(bundle: Bundle, run: Path, studies: list[Study], tmp_path: Path) -> None:
    pack = tmp_path / "canvases.npz"
    write_pack(bundle, studies, pack)
    cpu = {"name": "Cortex-A72", "architecture": "aarch64", "features": ["asimd"], "threads": 4, "emulated": None}
    outputs = answer(pack, bundle, tmp_path / "outputs.npz", cpu=np.array(json.dumps(cpu)))
    assert judge_recording(bundle, run, studies, read_outputs(outputs, bundle, 4)).cpu == cpu
    for wrong in ({**cpu, "threads": "four"}, {**cpu, "speed": 3}, {**cpu, "features": [1]}, [cpu]):
        outputs = answer(pack, bundle, tmp_path / "outputs.npz", cpu=np.array(json.dumps(wrong)))
        with pytest.raises(InputError, match="'cpu' is"):
            read_outputs(outputs, bundle, 4)
