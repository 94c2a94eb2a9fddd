"""An ONNX graph under change."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Editor:
    """A copy of a graph, with who makes and who reads each tensor.

    Parameters
    ----------
    model
        An ``onnx.ModelProto``; it is not changed.
    """

    def __init__(self, model: Any) -> None:
        import onnx

        self.model = copy.deepcopy(model)
        self.graph = self.model.graph
        self._constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self._taken = {name for node in self.graph.node for name in (*node.input, *node.output)}
        inferred = onnx.shape_inference.infer_shapes(self.model).graph
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        self._shapes = {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in values}

    def nodes(self, operator: str) -> list[Any]:
        """Return the nodes of a type, in the graph's order."""
        return [node for node in self.graph.node if node.op_type == operator]

    def maker(self, tensor: str, operator: str) -> Any:
        """Return the node that makes `tensor` if it is of the type `operator`, else None."""
        return next((node for node in self.graph.node if tensor in node.output and node.op_type == operator), None)

    def constant(self, tensor: str) -> NDArray[Any] | None:
        """Return the value of a constant, None for what is computed."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self._constants[tensor]) if tensor in self._constants else None

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of a tensor of the graph as it was given."""
        return self._shapes[tensor]

    def add_constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        name = self._fresh(name)
        self._constants[name] = numpy_helper.from_array(np.asarray(value), name)
        self.graph.initializer.append(self._constants[name])
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node and return the name of its output, which is its own too: it belongs to the geometry.

        Parameters
        ----------
        output
            What the output is called; a number is added where that is taken.
        """
        from onnx import helper

        output = self._fresh(output)
        self.graph.node.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def redirect(self, old: str, new: str) -> None:
        """Let every node that read `old` read `new`."""
        for node in self.graph.node:
            for place, name in enumerate(node.input):
                if name == old:
                    node.input[place] = new

    def finish(self) -> Any:
        """Return the changed graph, sorted, without what nothing reads any more."""
        import onnx

        makers = {output: node for node in self.graph.node for output in node.output}
        ordered: list[Any] = []
        seen: set[str] = set()
        waiting = [(value.name, False) for value in reversed(self.graph.output)]
        while waiting:  # depth first: a node comes after everything that it reads
            name, ready = waiting.pop()
            node = makers.get(name)
            if node is None or (node.output[0] in seen):
                continue
            if ready:
                seen.add(node.output[0])
                ordered.append(node)
            else:
                waiting += [(name, True), *((each, False) for each in reversed(node.input))]
        del self.graph.node[:]
        self.graph.node.extend(ordered)
        read = {name for node in ordered for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        del self.graph.value_info[:]
        onnx.checker.check_model(self.model, full_check=True)
        return self.model

    def _fresh(self, name: str) -> str:
        """Return `name`, with a number where it is taken."""
        fresh, number = name, 1
        while fresh in self._taken:
            number += 1
            fresh = f"{name}.{number}"
        self._taken.add(fresh)
        return fresh
