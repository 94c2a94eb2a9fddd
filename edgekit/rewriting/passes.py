"""Rewrites of a graph as named passes, and the one runner that holds each to what it requires and ensures.

A pass that meets another graph than it was made for would give a graph that answers otherwise, and nobody would know before the verdict, if
then. So it says what it needs and what it leaves behind, both are looked at whenever it runs, and an error names it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.errors import EdgekitError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds of a graph or does not.

    Attributes
    ----------
    says
        It, as the end of a sentence: "the films are bytes".
    holds
        Looks at an ``onnx.ModelProto``: at its nodes and names, and runs nothing.
    """

    says: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Pass:
    """One rewrite.

    Attributes
    ----------
    name
        What it does, as an imperative: "crop in integers".
    run
        Takes an ``onnx.ModelProto`` and returns the rewritten one, which may be the same object.
    requires, ensures
        What holds of a graph that it takes, and of what it returns. That the graph's inputs and outputs stay as they were need not be said.
    """

    name: str
    run: Callable[[Any], Any]
    requires: tuple[Condition, ...] = ()
    ensures: tuple[Condition, ...] = ()


def run_passes(model: Any, passes: Iterable[Pass]) -> Any:
    """Rewrite a graph by one pass after the other.

    Parameters
    ----------
    model
        An ``onnx.ModelProto``.

    Raises
    ------
    InputError
        A pass does not take the graph, fails, or does not keep what it ensures; the message names the pass.
    EdgekitError
        Whatever a pass refuses on purpose, with its name.
    """
    for each in passes:
        _require(each, "requires", each.requires, model)
        features = _list_features(model)
        try:
            model = each.run(model)
        except EdgekitError as error:
            error.message = f"{error.message} (in the pass '{each.name}')"
            error.args = (error.message,)
            raise
        except Exception as error:  # onnx's, onnxruntime's and a pass's own assertions share no base
            raise InputError(f"the pass '{each.name}' failed: {type(error).__name__}: {error}", "report this") from error
        if _list_features(model) != features:
            raise InputError(f"the pass '{each.name}' changed the graph's inputs or outputs", "report this")
        _require(each, "ensures", each.ensures, model)
    return model


def opset_from(version: int) -> Condition:
    """Return the condition that a graph has at least this operator set of ONNX's own."""
    return Condition(
        f"the operator set is {version} or later",
        lambda model: any(each.domain == "" and each.version >= version for each in model.opset_import),
    )


def has(operator: str) -> Condition:
    """Return the condition that a graph has an operator of this type."""
    return Condition(f"there is a {operator}", lambda model: any(node.op_type == operator for node in model.graph.node))


def has_no(*operators: str) -> Condition:
    """Return the condition that a graph has no operator of these types."""
    return Condition(
        f"there is no {' or '.join(operators)} yet", lambda model: not any(node.op_type in operators for node in model.graph.node)
    )


def has_nodes(names: Collection[str]) -> Condition:
    """Return the condition that a graph has all the nodes of these names."""
    return Condition(
        f"each of the {len(names)} nodes chosen is there", lambda model: set(names) <= {node.name for node in model.graph.node}
    )


def count_readers(model: Any) -> Counter[str]:
    """Return how many nodes read each tensor."""
    return Counter(name for node in model.graph.node for name in set(node.input))


def _are_films_bytes(model: Any) -> bool:
    kinds = [value.type.tensor_type for value in model.graph.input]
    films = [kind.elem_type for kind in kinds if len(kind.shape.dim) == 4]
    return bool(films) and set(films) == {2}  # TensorProto.UINT8


def _are_names_unique(model: Any) -> bool:
    names = [node.name for node in model.graph.node]
    return all(names) and len(set(names)) == len(names)


def _is_sorted(model: Any) -> bool:
    made = {"", *(value.name for value in model.graph.input), *(tensor.name for tensor in model.graph.initializer)}
    for node in model.graph.node:
        if not made.issuperset(node.input):
            return False
        made.update(node.output)
    return made.issuperset(value.name for value in model.graph.output)


def _are_films_read_as_bytes(model: Any) -> bool:
    films = {value.name for value in model.graph.input if value.type.tensor_type.elem_type == 2}
    return not any(node.op_type == "Cast" and node.input[0] in films for node in model.graph.node)


def _have_convolutions_their_own(model: Any) -> bool:
    readers = count_readers(model)
    return all(readers[name] < 2 for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:])


FILMS_ARE_BYTES = Condition("the films are bytes", _are_films_bytes)
NAMED = Condition("every node has a name of its own", _are_names_unique)
SORTED = Condition("every node stands behind what it reads", _is_sorted)
OWN = Condition("no convolution shares its weights", _have_convolutions_their_own)
READS_BYTES = Condition("no film is cast to float", _are_films_read_as_bytes)
IN_FLOAT32 = Condition(
    "everything is computed in float32",
    lambda model: (
        all(tensor.data_type not in (10, 16) for tensor in model.graph.initializer)  # TensorProto.FLOAT16, BFLOAT16
        and has_no("QuantizeLinear", "DequantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul").holds(model)
    ),
)
HOLDS_HALVES = Condition("a weight is float16", lambda model: any(tensor.data_type == 10 for tensor in model.graph.initializer))


def _require(each: Pass, verb: str, conditions: tuple[Condition, ...], model: Any) -> None:
    """Raise unless all the conditions hold."""
    for condition in conditions:
        if not condition.holds(model):
            raise InputError(f"the pass '{each.name}' {verb} that {condition.says}, which does not hold of this graph", "report this")


def _list_features(model: Any) -> list[bytes]:
    """Return names, types and shapes of the graph's inputs and outputs."""
    features: list[bytes] = [value.SerializeToString(deterministic=True) for value in (*model.graph.input, *model.graph.output)]
    return features
