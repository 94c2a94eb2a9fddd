"""Constants that several nodes read: what is done to one convolution's weights must not be done to another's."""

from __future__ import annotations

from typing import Any

from edgekit.rewriting.editing import Editor
from edgekit.rewriting.passes import OWN, count_readers


def own_weights(model: Any) -> Any:
    """Give every convolution weights and a bias that nobody else reads; exact.

    torch's exporter stores equal tensors once, such as those of members whose first stages were not trained.
    """
    if OWN.holds(model):
        return model
    editor, readers = Editor(model), count_readers(model)
    for node in editor.nodes("Conv"):
        for place, name in enumerate(node.input[1:], start=1):
            if readers[name] > 1 and (value := editor.constant(name)) is not None:
                node.input[place] = editor.add_constant(name, value)
    return editor.finish()
