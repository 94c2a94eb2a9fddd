"""The pipeline against a plain re-statement of its parts, step by step in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekit.contract import OUTPUTS
from edgekit.errors import InputError
from edgekit.models.pipeline import Pipeline
from edgekit.models.runfolder import load_ensembles, load_members_pipeline, load_pipeline, run_hash
from edgekit.task import PEDICLE_SCREWS

CASES = {"ap": (1, 0), "lateral": (0, 1), "both": (1, 1), "none": (0, 0)}


def run(pipeline: Pipeline, present: tuple[int, int], seed: int = 0) -> dict[str, np.ndarray]:
    side = pipeline.spec.canvas_side
    films = torch.randint(0, 256, (2, 1, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    films = films * torch.tensor(present, dtype=torch.uint8).reshape(2, 1, 1, 1, 1)
    with torch.inference_mode():
        outputs = pipeline(films[0], films[1], torch.tensor(present, dtype=torch.float32))
    return {name: tensor.numpy() for name, tensor in zip(OUTPUTS, outputs, strict=True)}


@pytest.fixture(scope="module")
def pipeline(tiny_run: Path) -> Pipeline:
    return load_members_pipeline(tiny_run)


@pytest.mark.parametrize("case", CASES)
def test_shapes_dtypes_and_ranges(pipeline: Pipeline, case: str) -> None:
    answer = run(pipeline, CASES[case])
    shapes = {
        "probabilities": ((3,), np.float32),
        "members": ((4, 3), np.float32),
        "boxes": ((2, 4), np.float32),
        "box_scores": ((2,), np.float32),
        "found": ((2,), np.int32),
        "view_scores": ((2, 2), np.float32),
        "heatmaps": ((2, 2, 2), np.float32),
        "prediction_set": ((3,), np.int32),
        "unfamiliarity": ((1,), np.float32),
        "decision": ((1,), np.int32),
    }
    assert {name: (array.shape, array.dtype.type) for name, array in answer.items()} == shapes
    assert answer["probabilities"].sum() == pytest.approx(0 if case == "none" else 1, abs=1e-5)
    for view, present in enumerate(CASES[case]):
        if not present:
            assert not answer["boxes"][view].any()
            assert not answer["heatmaps"][view].any()
            assert answer["box_scores"][view] == 0
    assert (answer["decision"][0] == 3) == (case == "none")


@pytest.mark.parametrize("case", ["ap", "lateral", "both"])
@pytest.mark.parametrize("name", ["ap+lateral", "all"])
def test_the_graphs_ensemble_equals_the_fitted_one(tiny_run: Path, case: str, name: str) -> None:
    from edgekit.models.runfolder import assemble_pipeline

    ensemble = load_ensembles(tiny_run)[name]
    pipeline = assemble_pipeline(tiny_run, ensemble, ensemble.members)
    present = CASES[case]
    answer = run(pipeline, present)
    rows = {member: answer["members"][i : i + 1] for i, member in enumerate(pipeline.spec.members)}
    expected = ensemble.predict(rows, np.array([present], bool), PEDICLE_SCREWS.cases)[0]
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    evaluable = {"ap": {"ap", "merge"}, "lateral": {"lateral", "merge"}, "both": {"ap", "lateral", "concat", "merge"}}[case]
    for member, row in rows.items():
        assert row.sum() == pytest.approx(1.0 if member in evaluable else 0.0, abs=1e-5)


def test_merge_is_the_mean_over_the_films_given(pipeline: Pipeline) -> None:
    row = pipeline.spec.members.index("merge")
    both, ap, lateral = (run(pipeline, CASES[case])["members"][row] for case in ("both", "ap", "lateral"))
    np.testing.assert_allclose(both, (ap + lateral) / 2, atol=1e-5)


def test_the_heatmap_is_grad_cam_up_to_scale(pipeline: Pipeline) -> None:
    """Gradients by autograd, for a head of global average pooling and one linear layer (Selvaraju et al. 2017, section 3.1)."""
    answer = run(pipeline, (1, 1))
    side = pipeline.spec.canvas_side
    films = torch.randint(0, 256, (2, 1, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    from edgekit.models.cropper import crop_and_resize, expand_boxes

    crops = crop_and_resize(films[:, 0].float() / 255, expand_boxes(torch.from_numpy(answer["boxes"]), side, 0.05), 64, 64)
    for view, name in enumerate(("ap", "lateral")):
        member = pipeline.members[name]
        features: Tensor = member.features(crops[view : view + 1]).detach().requires_grad_()
        member.classify(features)[0, int(answer["probabilities"].argmax())].backward()
        assert features.grad is not None
        cam = torch.relu((features.grad.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1))[0].detach()
        np.testing.assert_allclose(answer["heatmaps"][view], (cam / cam.max().clamp(min=1e-6)).numpy(), atol=1e-4)
    assert answer["heatmaps"].max() == pytest.approx(1)


def test_precedence_of_decisions(pipeline: Pipeline) -> None:
    def decide(found: tuple[int, int], views: list[list[float]], unfamiliar: bool, chosen: list[int]) -> int:
        present = torch.tensor(found, dtype=torch.float32)
        one = torch.tensor(chosen, dtype=torch.int32)
        answered = present.amax().reshape(1)
        return int(pipeline.decide(present, answered, torch.tensor(views), torch.tensor([unfamiliar]), one))

    right, wrong = [[0.9, 0.1], [0.1, 0.9]], [[0.1, 0.9], [0.9, 0.1]]
    assert decide((1, 1), right, False, [0, 1, 0]) == 0
    assert decide((1, 1), right, False, [1, 1, 0]) == 1
    assert decide((1, 1), right, False, [0, 0, 0]) == 1
    assert decide((1, 1), right, True, [1, 1, 0]) == 2
    assert decide((0, 0), wrong, True, [1, 1, 0]) == 3
    assert decide((1, 1), wrong, True, [1, 1, 0]) == 4
    assert decide((1, 0), [[0.1, 0.9], [0.9, 0.1]], False, [0, 1, 0]) == 4
    assert decide((0, 1), [[0.1, 0.9], [0.1, 0.9]], False, [0, 1, 0]) == 0, "a film that was not found can't be swapped"
    assert decide((1, 0), [[0.4, 0.5], [0.0, 0.0]], False, [0, 1, 0]) == 0, "within the margin"


def test_a_film_below_the_threshold_counts_as_not_given(tiny_run: Path) -> None:
    import dataclasses

    pipeline = load_pipeline(tiny_run)
    scores = run(pipeline, (1, 1))["box_scores"]
    better = int(scores.argmax())
    alone = run(pipeline, (1 - better, better))  # the other film is not given
    pipeline.spec = dataclasses.replace(pipeline.spec, box_threshold=float(scores.mean()))
    assert scores[0] != scores[1]
    answer = run(pipeline, (1, 1))
    assert answer["found"].tolist() == [1 - better, better]
    np.testing.assert_allclose(answer["probabilities"], alone["probabilities"], atol=1e-6)
    assert (answer["members"].sum(axis=1) > 0).sum() == 1
    assert not answer["heatmaps"][int(scores.argmin())].any()


def test_an_ensemble_that_can_not_answer_every_patient_is_refused(tiny_run: Path) -> None:
    with pytest.raises(InputError, match=r"answers only for ap, both, not for lateral \(without a film of ap\)"):
        load_pipeline(tiny_run, "ap")
    with pytest.raises(InputError, match="no ensemble 'best'"):
        load_pipeline(tiny_run, "best")


def test_the_hash_changes_with_the_weights(tiny_run: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(tiny_run, tmp_path / "copy")
    assert run_hash(copy) == run_hash(tiny_run)
    weights = bytearray((copy / "member_ap.safetensors").read_bytes())
    weights[-5] ^= 1
    (copy / "member_ap.safetensors").write_bytes(bytes(weights))
    assert run_hash(copy) != run_hash(tiny_run)
    (copy / "detector.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_pipeline(copy)


def test_a_run_of_before_tasks_were_data_answers_to_the_bit_as_it_did(tiny_run: Path, tmp_path: Path) -> None:
    """Its files say nothing of a task, of views or of the crop's margin."""
    import json
    import shutil

    from before_tasks import find_differences

    run_before = shutil.copytree(tiny_run, tmp_path / "run")
    for name, keys in {"pipeline.json": ("task", "crop_margin", "black"), "detector.json": ("views",)}.items():
        document = json.loads((run_before / name).read_text())
        (run_before / name).write_text(json.dumps({key: value for key, value in document.items() if key not in keys}))
    films = torch.randint(0, 256, (2, 1, 1, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(7))
    for pipeline in (load_members_pipeline(run_before), load_pipeline(run_before, "ap+lateral"), load_pipeline(run_before, "all")):
        assert find_differences(pipeline, films[0], films[1]) == []
