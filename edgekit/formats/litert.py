"""LiteRT files (``.tflite``): what their tensors and operators are."""

from __future__ import annotations

import importlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from edgekit.errors import MissingError

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "ai-edge-litert"
INSTALL = "pip install 'edgekit-imaging[litert]'"


def import_litert(module: str) -> Any:
    """Import a module of ai-edge-litert: ``interpreter``, or ``schema_py_generated``, the schema's classes.

    Raises
    ------
    MissingError
        It is not installed.
    """
    try:
        return importlib.import_module(f"ai_edge_litert.{module}")
    except ImportError as error:
        raise MissingError(f"{PACKAGE} is not installed: {error}", INSTALL) from error


def import_schema() -> Any:
    """Import the schema's classes; see `import_litert`."""
    return import_litert("schema_py_generated")


def count_operators(model: Path) -> dict[str, int]:
    """Return the number of each operator, in the order of their names."""
    schema = import_schema()
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    document = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model.read_bytes(), 0))
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in document.operatorCodes]
    operators = Counter(names[codes[node.opcodeIndex]] for graph in document.subgraphs for node in graph.operators)
    return dict(sorted(operators.items()))
