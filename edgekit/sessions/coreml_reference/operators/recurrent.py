"""The LSTM (``coremltools.converters.mil.mil.ops.defs.iOS15.recurrent``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from edgekit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name.lower() not in ACTIVATIONS:
        raise InputError(f"the activation {name!r} of an LSTM is not known", f"known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name.lower()]


def _lstm(
    x: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    peephole: Tensor | None = None,
    weight_ih_back: Tensor | None = None,
    weight_hh_back: Tensor | None = None,
    bias_back: Tensor | None = None,
    peephole_back: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`x` (s, b, I); every state (b, H), for both directions side by side; gates in the order input, forget, output, cell."""
    functions = tuple(_activation(name) for name in (recurrent_activation, cell_activation, activation))
    size = weight_hh.shape[1]
    passes = [(weight_ih, weight_hh, bias, peephole, direction == "reverse")]
    if direction == "bidirectional":
        assert weight_ih_back is not None
        assert weight_hh_back is not None
        passes.append((weight_ih_back, weight_hh_back, bias_back, peephole_back, True))
    sequences, states, cells = [], [], []
    for index, (ih, hh, offset, peep, backward) in enumerate(passes):
        h, c = (state[:, index * size : (index + 1) * size] for state in (initial_h, initial_c))
        inputs = functional.linear(x.flip(0) if backward else x, ih, offset)
        steps = []
        for gates in inputs:
            h, c = _step(gates + h @ hh.T, c, peep, functions, clip)
            steps.append(h)
        sequence = torch.stack(steps) if output_sequence else h.unsqueeze(0)
        sequences.append(sequence.flip(0) if backward else sequence)
        states.append(h)
        cells.append(c)
    return torch.cat(sequences, -1), torch.cat(states, -1), torch.cat(cells, -1)


def _step(gates: Tensor, c: Tensor, peephole: Tensor | None, functions: Any, clip: float | None) -> tuple[Tensor, Tensor]:
    """Return the next hidden state and cell state."""
    recurrent, cell, last = functions
    i, f, o, z = gates.chunk(4, -1)
    looks = (0.0, 0.0, 0.0) if peephole is None else peephole.chunk(3)
    z = cell(z if clip is None else z.clamp(-clip, clip))
    c_next = recurrent(f + looks[1] * c) * c + recurrent(i + looks[0] * c) * z
    return recurrent(o + looks[2] * c_next) * last(c_next), c_next


OPERATORS: dict[str, Callable[..., Any]] = {"lstm": _lstm}
