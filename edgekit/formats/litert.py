"""LiteRT files (``.tflite``): what their tensors and operators are."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from edgekit.errors import MissingError

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "ai-edge-litert"
INSTALL = "pip install 'edgekit-imaging[litert]'"


def import_schema() -> Any:
    """Import the schema's classes.

    Raises
    ------
    MissingError
        ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise MissingError(f"{PACKAGE} is not installed: {error}", INSTALL) from error
    return schema_py_generated


def import_interpreter() -> Any:
    """Import the module of LiteRT's interpreter.

    Raises
    ------
    MissingError
        ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise MissingError(f"{PACKAGE} is not installed: {error}", INSTALL) from error
    return interpreter


def count_operators(model: Path) -> dict[str, int]:
    """Return the number of each operator, in the order of their names."""
    schema = import_schema()
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    document = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model.read_bytes(), 0))
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in document.operatorCodes]
    operators = Counter(names[codes[node.opcodeIndex]] for graph in document.subgraphs for node in graph.operators)
    return dict(sorted(operators.items()))
