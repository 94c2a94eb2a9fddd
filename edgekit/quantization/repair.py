"""How much of a graph can be 8-bit: everything, less the blocks that damage the answers most."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import GateError
from edgekit.progress import track
from edgekit.quantization.equalization import equalize
from edgekit.quantization.looks import Looks
from edgekit.quantization.observing import observe
from edgekit.quantization.placement import OPERATORS, Rounded, count_groups, insert_quantization, round_graph, store_weights
from edgekit.quantization.running import run_patients
from edgekit.rewriting import crop_in_integers, read_bytes, unfold_stems

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from edgekit.sessions import Tensors
    from edgekit.types import Calibration

BLOCK = re.compile(r".+?\.network(?:\.model\.\d+)?(?:\.(?:blocks\.\d+|stem|conv_stem|bn1|conv_head|bn2|cv[23]\.\d+\.\d+))?")
ACTIVATION_OF = {"bn1": "conv_stem", "bn2": "conv_head"}
"""timm's name of the layer that holds an activation, and of the convolution that it belongs to."""

FAINTEST = 1e-9
"""Probabilities below it are taken for it: what is zero has no log-odds."""

RANKED_ON = 96
"""Looks at patients on which blocks are ranked: enough to order them, and it is done once a block."""


ROUNDING_SHARE = 3 / 5
"""Share of the tolerance that cropping in integers may use up: damages add up like variances, so that it leaves most of it."""

CONVERSION = 16
"""Multiply-adds in float that take as long as one element on its way from 8 bits to float or back."""

FLOAT_WEIGHTS = 1 << 13
"""A block with more weights than this keeps them in 8 bits when it is given back, and computes in float: the file stays small. Not where
everything is symmetric: TensorRT has no convolution of float by 8-bit weights."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What quantizing one block alone does to the answers.

    Attributes
    ----------
    block
        Path of the module.
    change
        `measure_damage`.
    parameters
        Number of its weights.
    multiply_adds, elements
        What it computes for a patient, and how many elements its nodes write: in float both take longer.
    """

    block: str
    change: float
    parameters: int
    multiply_adds: int
    elements: int

    @property
    def urgency(self) -> float:
        """What giving it back wins for what it costs: the damages of blocks add up like variances, their arithmetic takes time."""
        return self.change**2 / (self.multiply_adds + CONVERSION * self.elements)


@dataclass(frozen=True, slots=True)
class Repair:
    """What was decided, and why; kept in the bundle.

    Attributes
    ----------
    tolerance
        The recipe's.
    patients
        How many it was measured on, each in `LOOKS` looks.
    before, after
        `measure_damage` with everything in 8 bits, and as shipped.
    kept_float
        Blocks given back to float, those that the recipe keeps so first.
    float_share
        Their share of the weights that could be computed with in 8 bits.
    ranking
        Every block, in the order in which they are given back (`Damage.urgency`); empty when nothing had to be given back.
    """

    tolerance: float
    patients: int
    before: float
    after: float
    kept_float: tuple[str, ...]
    float_share: float
    ranking: tuple[Damage, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``quantization.json``."""
        return asdict(self)


def rewrite_graph(model: Any, calibration: Sequence[Tensors], tolerance: float) -> tuple[Any, str]:
    """Let what is to be quantized read bytes (`edgekit.rewriting`), and crop in integers if the answers bear it.

    Parameters
    ----------
    model
        An ``onnx.ModelProto`` in float32.
    calibration
        The graph's inputs of each patient.
    tolerance
        The recipe's.

    Returns
    -------
    The graph, and what it crops in: ``integers``, or ``float32`` where that alone changes the answers by more than `ROUNDING_SHARE` of the
    tolerance.
    """
    plain = read_bytes(model)
    cropped = crop_in_integers(plain)
    expected, found = (answer(each, calibration, "Rewriting the graph") for each in (model, cropped))
    if measure_damage(found, expected) <= ROUNDING_SHARE * tolerance:
        return unfold_stems(cropped), "integers"
    return unfold_stems(plain), "float32"


def quantize_graph(
    model: Any,
    reference: Any,
    wanted: set[str],
    calibration: Sequence[Tensors],
    settings: Calibration,
    activations: str,
    symmetric: bool,
    depthwise: str = "int8",
) -> tuple[Any, Repair]:
    """Compute as much of `model` in 8 bits as the answers on the calibration patients allow.

    Everything wanted is quantized; if the answers change by more than the tolerance (`measure_damage`), each block is quantized alone, the
    blocks are ranked by what that does to the answers and by what they would take in float, and as many are given back in that order as
    it takes.

    Parameters
    ----------
    model
        An ``onnx.ModelProto`` in float32, its nodes named by module (see ``edgekit.backends.onnx.export_graph``).
    reference
        The graph whose answers are to hold: `model` itself, or what it was before it was rewritten.
    wanted
        Names of the nodes whose stage is to be 8-bit.
    calibration
        The graph's inputs of each patient.
    settings
        The recipe's.
    activations, symmetric
        See `edgekit.quantization.placement.insert_quantization`.
    depthwise
        ``float32`` gives every block with a depthwise convolution back to begin with, its weights kept in 8 bits.

    Returns
    -------
    The quantized graph, and what stayed float.

    Raises
    ------
    GateError
        The answers change by more than the tolerance even where a single block is 8-bit.
    """
    blocks: dict[str, set[str]] = {}
    for node in model.graph.node:
        if node.op_type in OPERATORS and node.name in wanted:
            blocks.setdefault(block_of(node.name), set()).add(node.name)
    wide = _find_depthwise(model) if depthwise == "float32" else set()
    fixed = [block for block, nodes in blocks.items() if nodes & wide]
    everything = set().union(*blocks.values())
    model = equalize(model, everything, calibration)
    observation = observe(model, everything, calibration, settings.method)
    rounded = round_graph(model, everything, observation, activations)
    looks = Looks(calibration)
    expected = answer(reference, looks, "Reading the reference")

    def join(chosen: Iterable[str]) -> set[str]:
        return set().union(*(blocks[block] for block in chosen))

    @cache
    def round_for_float() -> Rounded:
        return round_graph(model, everything, observation, None)

    def quantize(nodes: set[str], stored: set[str]) -> Any:
        lightened = store_weights(model, stored, observation, round_for_float()) if stored else model
        return insert_quantization(lightened, nodes, observation, rounded, activations, symmetric)

    def give_back(kept: Sequence[str]) -> tuple[Any, float]:
        heavy = [block for block in kept if block in fixed or (sizes[block] > FLOAT_WEIGHTS and not symmetric)]
        quantized = quantize(everything - join(kept), join(heavy))
        return quantized, measure_damage(answer(quantized, looks, ""), expected)

    work = _count_work(model)
    sizes, multiply_adds, elements = (
        {block: sum(work[name][part] for name in nodes) for block, nodes in blocks.items()} for part in range(3)
    )
    kept = fixed
    shipped, before = give_back(kept)
    after, ranking = before, []
    if before > settings.tolerance:
        some = looks[:RANKED_ON]
        unrounded = answer(model, some, "")  # a block's own damage, not what rewriting changed before it
        for block in track([block for block in blocks if block not in fixed], "Ranking the blocks"):
            damage = measure_damage(answer(quantize(blocks[block], set()), some, ""), unrounded)
            ranking.append(Damage(block, damage, sizes[block], multiply_adds[block], elements[block]))
        ranking.sort(key=lambda damage: -damage.urgency)
        order = [damage.block for damage in ranking]
        few, enough = 0, len(order) - 1  # with the last one too nothing would be quantized
        if give_back([*fixed, *order[:enough]])[1] > settings.tolerance:
            unquantized = measure_damage(answer(model, looks, ""), expected)
            raise GateError(
                f"the answers change by more than {settings.tolerance} on average with any block in 8 bits ({order[-1]} is the mildest), "
                f"and by {unquantized:.4f} with none",
                "raise the tolerance in the recipe, or choose a variant with 16-bit activations",
            )
        while enough - few > 1:
            middle = (few + enough) // 2
            few, enough = (few, middle) if give_back([*fixed, *order[:middle]])[1] <= settings.tolerance else (middle, enough)
        kept = [*fixed, *order[:enough]]
        shipped, after = give_back(kept)
    return shipped, Repair(
        tolerance=settings.tolerance,
        patients=len(calibration),
        before=before,
        after=after,
        kept_float=tuple(kept),
        float_share=sum(sizes[block] for block in kept) / sum(sizes.values()),
        ranking=tuple(ranking),
    )


def block_of(node: str) -> str:
    """Return the block of a node, by its name: a stage of a backbone, a layer of the detector's neck, a branch of its head.

    Examples
    --------
    >>> block_of("members.ap.network.blocks.3.1.conv_dw/conv2d_97")
    'members.ap.network.blocks.3'
    >>> block_of("members.ap.network.bn1/hardtanh_22")
    'members.ap.network.conv_stem'
    """
    match = BLOCK.match(node)
    assert match is not None, f"{node} belongs to no network"
    *path, last = match.group().split(".")
    return ".".join([*path, ACTIVATION_OF.get(last, last)])


def answer(model: Any, calibration: Sequence[Tensors], description: str) -> NDArray[np.float64]:
    """Return the graph's probabilities for each patient, float64 (N, K)."""
    return np.array([answers[0] for answers in run_patients(model, ["probabilities"], calibration, description)], np.float64)


def measure_damage(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """Return the mean absolute change of the log-odds of the first brand against the second.

    Validation patients are those that the ensembles were fitted on: their probabilities are so near to one that a change hardly shows.
    Their log-odds move as far as those of fresh patients do, and a patient gets another brand when they move farther than they were.

    Parameters
    ----------
    found, expected
        Probabilities, (N, K); which brands are first and second is what is expected.
    """
    rows, order = np.arange(len(expected)), np.argsort(-expected, axis=1)

    def odds(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        first, second = (np.log(np.maximum(probabilities[rows, order[:, place]], FAINTEST)) for place in (0, 1))
        return np.asarray(first - second)

    return float(np.abs(odds(found) - odds(expected)).mean())


def _find_depthwise(model: Any) -> set[str]:
    """Return the names of the depthwise convolutions: a group for each of many channels."""
    return {node.name for node in model.graph.node if count_groups(node) > 1}


def _count_work(model: Any) -> dict[str, tuple[int, int, int]]:
    """Return how many weights, multiply-adds and elements written each node has, by name; only convolutions have the first two."""
    import onnx

    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*inferred.value_info, *inferred.output)}
    work = {}
    for node in model.graph.node:
        elements = int(np.prod([dim.dim_value for dim in shapes[node.output[0]]]))
        size = int(np.prod(weights[node.input[1]])) if node.op_type == "Conv" else 0
        channels = weights[node.input[1]][0] if node.op_type == "Conv" else 1
        work[node.name] = size, elements * size // channels, elements
    return work
