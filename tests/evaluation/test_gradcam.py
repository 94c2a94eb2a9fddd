from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.contract import OUTPUTS
from edgekit.evaluation.gradcam import explain_films, find_clearest
from edgekit.models.runfolder import assemble_pipeline, load_ensembles, load_members_pipeline


def test_the_clearest_is_the_surest_right_answer_of_each_brand() -> None:
    probabilities = np.array(
        [[0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.9, 0.05, 0.05], [0.95, 0.0, 0.05], [0.1, 0.5, 0.4], [1 / 3, 1 / 3, 1 / 3]]
    )
    truth = ["a", "a", "a", "b", "c", "a"]
    usable = np.array([True, True, False, True, True, True])
    assert find_clearest("abc", truth, probabilities, usable) == {"a": 1}, "b and c were named wrongly, row 2 may not be used"
    assert find_clearest("abc", truth, probabilities, np.ones(6, bool)) == {"a": 2}
    assert find_clearest("abc", ["a"], probabilities[5:], np.ones(1, bool)) == {}, "no answer is no right answer"


def make_canvases(side: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (2, side, side), np.uint8)


def test_an_explanation_shows_what_the_graph_shows(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph's map has 2 x 2 cells here, so the corners of the library's enlarged one are those cells, scaled from least to most."""
    pipeline = load_members_pipeline(tiny_run)
    pipeline.ensemble.intercepts[:, 1] += 50  # the second brand it is
    for name in ("ap", "lateral"):
        pipeline.member(name).brand_weights.data[1].abs_()  # and everything speaks for it: no map is empty
    canvases = make_canvases(pipeline.spec.canvas_side)
    films = torch.from_numpy(canvases)[:, None, None]
    boxes = np.array([[20.0, 10, 80, 110], [40, 50, 100, 90]])
    monkeypatch.setattr(pipeline, "find", lambda _: (torch.from_numpy(boxes).float(), torch.ones(2), torch.eye(2)))
    with torch.inference_mode():
        answer = {name: tensor.numpy() for name, tensor in zip(OUTPUTS, pipeline(films[0], films[1], torch.ones(2)), strict=True)}
    explained = explain_films(pipeline, canvases, boxes, "design-b")
    assert list(explained) == ["ap", "lateral"]
    crops = [canvases[0, 5:115, 17:83], canvases[1, 48:92, 37:103]]  # 5 % of each side is added
    for row, film in enumerate(explained.values()):
        np.testing.assert_array_equal(film.crop, crops[row])
        graph = answer["heatmaps"][row]
        assert np.ptp(graph) > 0.1
        assert film.heat.shape == (64, 64)
        np.testing.assert_allclose(film.heat[np.ix_([0, -1], [0, -1])], (graph - graph.min()) / np.ptp(graph), atol=1e-4)


@pytest.mark.parametrize(("members", "explained"), [(("ap", "merge"), ["ap", "lateral"]), (("lateral", "concat"), ["lateral"])])
def test_a_film_without_its_member_is_explained_by_merge_or_not_at_all(
    tiny_run: Path, members: tuple[str, ...], explained: list[str]
) -> None:
    pipeline = load_members_pipeline(tiny_run)
    pipeline = assemble_pipeline(tiny_run, load_ensembles(tiny_run)["ap" if "ap" in members else "lateral"], members)
    boxes = np.array([[20.0, 10, 100, 120]] * 2)
    assert list(explain_films(pipeline, make_canvases(128), boxes, "design-b")) == explained
    assert all(parameter.grad is None for parameter in pipeline.parameters())
