"""The runner of passes names the one that failed, whichever way it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import EdgekitError, GateError, InputError
from edgekit.graphs.exporting import export_graph
from edgekit.models.runfolder import load_pipeline
from edgekit.rewriting import CROP_IN_INTEGERS, READ_BYTES, UNFOLD_STEMS, halve_all_but
from edgekit.rewriting.passes import (
    FILMS_ARE_BYTES,
    HOLDS_HALVES,
    IN_FLOAT32,
    NAMED,
    READS_BYTES,
    SORTED,
    Condition,
    Pass,
    has,
    has_no,
    has_nodes,
    opset_from,
    run_passes,
)


def make_model(film: int = TensorProto.UINT8, opset: int = 20) -> onnx.ModelProto:
    """A film that is cast and halved in brightness."""
    nodes = [
        helper.make_node("Cast", ["film"], ["wide"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "half"], ["y"], name="mul"),
    ]
    values = [helper.make_tensor_value_info(name, kind, (1, 1, 2, 2)) for name, kind in (("film", film), ("y", TensorProto.FLOAT))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [numpy_helper.from_array(np.float32(0.5), "half")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def keep(model: Any) -> Any:
    return model


def fail(model: Any) -> Any:  # noqa: ARG001
    raise AssertionError("no box")


def refuse(model: Any) -> Any:  # noqa: ARG001
    raise GateError("too much is lost", "accept more")


def rename_output(model: Any) -> Any:
    model.graph.output[0].name = "z"
    return model


NEVER = Condition("the moon is full", lambda _: False)


def test_passes_run_in_order_and_give_the_last_ones_graph() -> None:
    seen: list[str] = []

    def note(name: str) -> Pass:
        def run(model: Any) -> Any:
            seen.append(name)
            return model

        return Pass(name, run, requires=(SORTED,), ensures=(SORTED,))

    model = make_model()
    assert run_passes(model, [note("first"), note("second")]) is model
    assert seen == ["first", "second"]
    assert run_passes(model, []) is model


@pytest.mark.parametrize(
    ("each", "kind", "message"),
    [
        (Pass("bad", keep, requires=(NEVER,)), InputError, "the pass 'bad' requires that the moon is full, which does not hold"),
        (Pass("bad", keep, ensures=(NEVER,)), InputError, "the pass 'bad' ensures that the moon is full, which does not hold"),
        (Pass("bad", fail), InputError, "the pass 'bad' failed: AssertionError: no box"),
        (Pass("bad", refuse), GateError, r"too much is lost \(in the pass 'bad'\)"),
        (Pass("bad", rename_output), InputError, "the pass 'bad' changed the graph's inputs or outputs"),
    ],
)
def test_the_pass_that_failed_is_named(each: Pass, kind: type[EdgekitError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        run_passes(make_model(), [Pass("good", keep), each, Pass("never reached", fail)])
    assert caught.value.message == str(caught.value)
    assert caught.value.remedy


def test_what_a_pass_requires_is_looked_at() -> None:
    plain = make_model()
    held = (FILMS_ARE_BYTES, opset_from(20), has("Mul"), has_no("Conv"), has_nodes({"cast", "mul"}), IN_FLOAT32, SORTED, NAMED)
    assert all(condition.holds(plain) for condition in held)
    broken = (opset_from(21), has("Conv"), has_no("Conv", "Mul"), has_nodes({"cast", "pool"}), READS_BYTES, HOLDS_HALVES)
    assert not any(condition.holds(plain) for condition in broken)
    assert not FILMS_ARE_BYTES.holds(make_model(TensorProto.FLOAT))
    assert READS_BYTES.holds(make_model(TensorProto.FLOAT))

    for node in plain.graph.node:
        node.name = "same"
    assert not NAMED.holds(plain)
    turned = make_model()
    turned.graph.node.extend([turned.graph.node[0]])
    del turned.graph.node[0]
    assert not SORTED.holds(turned)
    halved = make_model()
    halved.graph.initializer.append(numpy_helper.from_array(np.float16(1), "h"))
    assert HOLDS_HALVES.holds(halved)
    assert not IN_FLOAT32.holds(halved)


def test_the_passes_of_export_refuse_each_others_graphs(tiny_run: Path) -> None:
    """Run twice or in another order they would do nothing, or something else, without a word."""
    plain = export_graph(load_pipeline(tiny_run, "ap+lateral"), 20)
    with pytest.raises(InputError, match="'crop in integers' requires that no film is cast to float"):
        run_passes(plain, [CROP_IN_INTEGERS])
    whole = run_passes(plain, [READ_BYTES, CROP_IN_INTEGERS, UNFOLD_STEMS])
    for again in (READ_BYTES, CROP_IN_INTEGERS, UNFOLD_STEMS, halve_all_but(set())):
        with pytest.raises(InputError, match=f"the pass '{again.name}' requires"):
            run_passes(whole, [again])


def test_a_rewrite_that_finds_nothing_to_rewrite_is_told() -> None:
    """Else a graph of another form comes back as it was, and nobody knows."""
    with pytest.raises(InputError, match="the pass 'read films as bytes' ensures that no film is cast to float"):
        run_passes(make_model(), [READ_BYTES])
