"""SiLU as it stands in a graph: x times the sigmoid of x, a Sigmoid and a Mul."""

from __future__ import annotations

from typing import Any

LOWEST = -6.0
"""What goes into a SiLU below this hardly comes out of it (0.015 at most), so that 8 bits need not tell it apart."""


def find_silus(model: Any) -> dict[str, str]:
    """Return what the Sigmoid of each SiLU reads, by the SiLU's input: that, or that times one number a channel.

    See `edgekit.quantization.equalization` for the second.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    silus = {}
    for node in model.graph.node:
        if node.op_type != "Mul":
            continue
        for film, gate in (node.input, reversed(node.input)):
            if gate in makers and makers[gate].op_type == "Sigmoid":
                read = makers[gate].input[0]
                if read == film or (read in makers and makers[read].op_type == "Mul" and film in makers[read].input):
                    silus[film] = read
    return silus
