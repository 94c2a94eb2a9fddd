from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.backends.onnx import export_graph, fold_batch_norms, stage_of
from edgekit.models.runfolder import load_pipeline
from edgekit.quantization.finetuning import RoundWeights, finetune_pipeline
from edgekit.quantization.observing import observe
from edgekit.quantization.placement import OPERATORS, insert_quantization, round_graph
from edgekit.quantization.repair import answer

STAGES = {"detector": "fp32", "geometry": "fp32", "members": "w8a8", "ensemble": "fp32"}


@pytest.fixture(scope="module")
def films() -> list[dict[str, np.ndarray]]:
    """Six patients of smooth noise."""
    random = np.random.default_rng(0)

    def draw() -> np.ndarray:
        coarse = torch.tensor(random.uniform(0, 255, (1, 1, 16, 16)))
        return torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear").to(torch.uint8).numpy()

    return [{"ap": draw(), "lateral": draw(), "present": np.ones(2, np.float32)} for _ in range(6)]


def test_weights_are_rounded_as_torch_rounds_them_and_still_learn() -> None:
    weights = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    rounded = RoundWeights()(weights)
    scales = weights.detach().abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    np.testing.assert_allclose(rounded.detach(), (weights.detach() / scales).round() * scales, atol=1e-6)
    rounded.sum().backward()
    assert (weights.grad == 1).all()


def test_the_members_answer_better_through_8_bits_than_before(tiny_run: Path, films: list[dict[str, np.ndarray]]) -> None:
    pipeline = fold_batch_norms(load_pipeline(tiny_run, "ap+lateral"))
    before = {name: tensor.clone() for name, tensor in pipeline.state_dict().items()}
    tuned = finetune_pipeline(pipeline, STAGES, films, epochs=60)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pipeline.state_dict().items())  # the teacher stays
    after = tuned.state_dict()
    assert set(after) == set(before)
    moved = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert moved == {"members"}

    reference = export_graph(pipeline, 20)
    expected = answer(reference, films, "")

    def damage(model: object) -> float:
        nodes = {node.name for node in model.graph.node if node.op_type in OPERATORS and stage_of(node.name) == "members"}
        seen = observe(model, nodes, films, "minmax")
        quantized = insert_quantization(model, nodes, seen, round_graph(model, nodes, seen, "uint8"), "uint8", False)
        return float(np.abs(answer(quantized, films, "") - expected).max(axis=1).mean())

    assert damage(export_graph(tuned, 20)) < 0.7 * damage(reference)
