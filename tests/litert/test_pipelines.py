"""Whole pipelines as LiteRT files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from edgekit.bundle import export_bundle
from edgekit.formats.litert import import_schema
from edgekit.graphs.weights import store_in_bytes
from edgekit.manifest import open_bundle
from edgekit.targets import load_target

pytest.importorskip("ai_edge_litert.interpreter", reason="pip install 'edgekit-imaging[litert]' runs this")

MOVES = ("RESHAPE", "QUANTIZE", "DEQUANTIZE", "PAD", "TRANSPOSE")
"""What changes no number but for rounding."""


def read_operators(model: Path) -> list[tuple[str, list[int], list[int]]]:
    """Return each operator of a file: its type, and the numbers of the tensors that it reads and writes."""
    schema = import_schema()
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    document = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model.read_bytes(), 0))
    codes = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in document.operatorCodes]
    return [(codes[node.opcodeIndex], list(node.inputs), list(node.outputs)) for node in document.subgraphs[0].operators]


def find_transposes_between_convolutions(operators: list[tuple[str, list[int], list[int]]]) -> int:
    """Count the transposes on the way to a convolution's film, except where that is the crop's product: matrices know no channels."""
    makers = {number: (operator, inputs[0]) for operator, inputs, outputs in operators if inputs for number in outputs}
    found = 0
    for operator, inputs, _ in operators:
        if operator not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            continue
        film, passed = inputs[0], 0
        while film in makers and makers[film][0] in MOVES:
            passed += makers[film][0] == "TRANSPOSE"
            film = makers[film][1]
        found += passed if film in makers and makers[film][0] != "BATCH_MATMUL" else 0
    return found


def test_no_axes_are_moved_between_convolutions(web_litert_bundle: Path) -> None:
    operators = read_operators(open_bundle(web_litert_bundle).model)
    assert sum(operator == "CONV_2D" for operator, *_ in operators) > 20
    assert find_transposes_between_convolutions(operators) == 0
    spoilt = [("CONV_2D", [0, 8, 7], [1]), ("TRANSPOSE", [1, 9], [2]), ("RESHAPE", [2, 9], [3]), ("CONV_2D", [3, 8, 7], [4])]
    assert find_transposes_between_convolutions(spoilt) == 1


def test_weights_in_8_bits_make_a_small_file_in_which_nothing_is_float16(tiny_run: Path, web_litert_bundle: Path, tmp_path: Path) -> None:
    target = replace(load_target("web:w8a16"), sessions=("litert",), corners=None)
    stored, floats = export_bundle(tiny_run, target, tmp_path / "bundle", force=True), open_bundle(web_litert_bundle)
    assert stored.model.stat().st_size < 0.4 * floats.model.stat().st_size  # a file is more than its weights
    assert stored.manifest.unproven == ()  # nothing is in float16, so that nobody has to look for its largest number


def test_a_stored_weight_is_off_by_half_a_step_at_most() -> None:
    weights = np.random.default_rng(0).normal(size=(8, 16, 3, 3)).astype(np.float32)
    biases = np.linspace(-1, 1, 300, dtype=np.float32)  # as many as there may be, and never rounded
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], name="wanted/conv"),
        helper.make_node("Conv", ["x", "v"], ["z"], name="other/conv"),
        helper.make_node("Add", ["y", "b"], ["s"], name="wanted/add"),
    ]
    kept = {"w": weights, "v": weights, "b": biases}
    model = helper.make_model(helper.make_graph(nodes, "graph", [], [], [numpy_helper.from_array(kept[name], name) for name in kept]))
    store_in_bytes(model, lambda name: name.startswith("wanted"))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set(stored) == {"v", "b", "w.bytes", "w.scales"}
    steps = np.abs(weights).max(axis=(1, 2, 3)) / 127
    np.testing.assert_allclose(stored["w.scales"], steps, rtol=1e-6)
    restored = stored["w.bytes"] * steps[:, None, None, None]
    assert (np.abs(restored - weights) <= steps[:, None, None, None] / 2 * 1.0001).all()
