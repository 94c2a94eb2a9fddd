"""How much of a graph can be 8-bit: everything, less the blocks that damage the answers most."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import GateError
from edgekit.progress import track
from edgekit.quantization.equalization import equalize
from edgekit.quantization.foresight import FAINTEST, Foresight
from edgekit.quantization.looks import Looks
from edgekit.quantization.observing import observe
from edgekit.quantization.placement import OPERATORS, Rounded, count_groups, insert_quantization, round_graph, store_weights
from edgekit.quantization.running import run_patients
from edgekit.rewriting import OWN_WEIGHTS, READ_BYTES
from edgekit.rewriting.passes import NAMED, SORTED, Pass, has_nodes, run_passes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from edgekit.quantization.foresight import CalibrationPatients
    from edgekit.rewriting import Form
    from edgekit.types import Calibration, Tensors

RANKED_ON = 96
"""Looks at patients on which blocks are ranked: enough to order them, and it is done once a block."""

ROUNDING_SHARE = 2 / 3
"""Share of the changed answers that cropping in integers may use up: damages add up like variances, so that it leaves most of them."""

WRONG_BY = 2
"""The true share of changed answers lies within this factor of the foreseen one."""

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
    changed
        The recipe's: the share of fresh patients that may get another brand.
    aim
        What repair aimed at: that, or more where weights and crop alone change more.
    patients
        How many it was foreseen from, each in `LOOKS` looks.
    before, after
        That share as it is foreseen (`Foresight.predict`) with everything in 8 bits, and as shipped.
    kept_float
        Blocks given back to float, those that the recipe keeps so first.
    float_share
        Their share of the weights that could be computed with in 8 bits.
    ranking
        Every block, in the order in which they are given back (`Damage.urgency`); empty when nothing had to be given back.
    """

    changed: float
    aim: float
    patients: int
    before: float
    after: float
    kept_float: tuple[str, ...]
    float_share: float
    ranking: tuple[Damage, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``quantization.json``."""
        return asdict(self)


def foresee(model: Any, patients: CalibrationPatients) -> Foresight:
    """Let the reference `model` look at the calibration patients; see `Foresight`."""
    return Foresight(answer_members(model, patients, "Reading the reference"), patients.brands)


def rewrite_graph(
    model: Any, patients: CalibrationPatients, foresight: Foresight, changed: float, located: bool, form: Form
) -> tuple[Any, str]:
    """Let what is to be quantized read bytes (`edgekit.rewriting`), and round the crop to bytes too if the answers bear it.

    Parameters
    ----------
    model
        An ``onnx.ModelProto`` in float32.
    patients
        Those of `foresight`.
    foresight
        Of `model`.
    changed
        The recipe's.
    located
        Whether a detector looks at the films.
    form
        What the runtime has fast operators for.

    Returns
    -------
    The graph, and what it crops in: that of `form`, or ``float32`` where that alone would change more than `ROUNDING_SHARE` of `changed`.
    """
    plain = run_passes(model, [READ_BYTES])
    cropped = run_passes(plain, [form.crop])
    if foresight.predict(answer_members(cropped, patients, "Rewriting the graph")) <= ROUNDING_SHARE * changed:
        return run_passes(cropped, [form.stems]), form.crops_in
    return run_passes(
        plain, [*form.float_crop, *([form.stems] if located else [])]
    ), "float32"  # without a detector only the crop reads films


def quantize_graph(
    model: Any,
    foresight: Foresight,
    wanted: Mapping[str, str],
    patients: CalibrationPatients,
    settings: Calibration,
    activations: str,
    symmetric: bool,
    depthwise: str = "int8",
) -> tuple[Any, Repair]:
    """Compute as much of `model` in 8 bits as the answers on the calibration patients allow.

    Everything wanted is quantized; if more answers would change than the recipe accepts (`Foresight.predict`), each block is quantized
    alone, the blocks are ranked by what that does to the answers (`measure_damage`) and by what they would take in float, and as many are
    given back in that order as it takes. Where not even all of them are enough, because weights and crop stay integers, 8-bit arithmetic
    may turn as many answers as the recipe accepts on top of that.

    Parameters
    ----------
    model
        An ``onnx.ModelProto`` in float32, its nodes named by module (see ``edgekit.graphs.exporting.export_graph``).
    foresight
        Of the graph whose answers are to hold: `model` itself, or what it was before it was rewritten.
    wanted
        Block by name of the nodes whose stage is to be 8-bit (`edgekit.graphs.places`).
    patients
        Those of `foresight`.
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
        More than `WRONG_BY` times as many answers would change as the recipe accepts.
    """
    blocks: dict[str, set[str]] = {}
    for node in model.graph.node:
        if node.op_type in OPERATORS and node.name in wanted:
            blocks.setdefault(wanted[node.name], set()).add(node.name)
    wide = _find_depthwise(model) if depthwise == "float32" else set()
    fixed = [block for block, nodes in blocks.items() if nodes & wide]
    everything = set().union(*blocks.values())
    chosen = has_nodes(everything)
    equalization = Pass(
        "bring channels to one range",
        partial(equalize, nodes=everything, calibration=patients.inputs),
        requires=(NAMED, SORTED, chosen),
        ensures=(chosen, SORTED),
    )
    model = run_passes(model, [OWN_WEIGHTS, equalization])
    observation = observe(model, everything, patients.inputs, settings.method)
    rounded = round_graph(model, everything, observation, activations)

    def join(chosen: Iterable[str]) -> set[str]:
        return set().union(*(blocks[block] for block in chosen))

    @cache
    def round_for_float() -> Rounded:
        return round_graph(model, everything, observation, None)

    def quantize(nodes: set[str], stored: set[str]) -> Any:
        lightened = model
        if stored:
            storing = partial(store_weights, nodes=stored, observation=observation, rounded=round_for_float())
            lightened = run_passes(model, [Pass("store weights in 8 bits", storing, requires=(has_nodes(stored),), ensures=(SORTED,))])
        return insert_quantization(lightened, nodes, observation, rounded, activations, symmetric)

    def give_back(kept: Sequence[str]) -> tuple[Any, float]:
        heavy = [block for block in kept if block in fixed or (sizes[block] > FLOAT_WEIGHTS and not symmetric)]
        quantized = quantize(everything - join(kept), join(heavy))
        return quantized, foresight.predict(answer_members(quantized, patients))

    work = _count_work(model)
    sizes, multiply_adds, elements = (
        {block: sum(work[name][part] for name in nodes) for block, nodes in blocks.items()} for part in range(3)
    )
    kept, aim = fixed, settings.changed
    shipped, before = give_back(kept)
    after, ranking = before, []
    if before > aim:
        some = Looks(patients.inputs)[:RANKED_ON]
        unrounded = answer(model, some)  # a block's own damage, not what rewriting changed before it
        for block in track([block for block in blocks if block not in fixed], "Ranking the blocks"):
            damage = measure_damage(answer(quantize(blocks[block], set()), some), unrounded)
            ranking.append(Damage(block, damage, sizes[block], multiply_adds[block], elements[block]))
        ranking.sort(key=lambda damage: -damage.urgency)
        order = [damage.block for damage in ranking]
        few, enough = 0, len(order) - 1  # with the last one too nothing would be quantized
        if (floor := give_back([*fixed, *order[:enough]])[1]) > aim:
            aim = math.hypot(aim, floor)  # what float mends no more comes on top
        if aim > WRONG_BY * settings.changed:
            unquantized = foresight.predict(answer_members(model, patients))
            raise GateError(
                f"{100 * floor:.2f} % of the answers would change with any block in 8 bits ({order[-1]} is mildest), "
                f"{100 * unquantized:.2f} % with none; the recipe accepts {100 * settings.changed:g} %",
                "accept more changed answers in the recipe, or choose a variant with 16-bit activations",
            )
        while enough - few > 1:
            middle = (few + enough) // 2
            few, enough = (few, middle) if give_back([*fixed, *order[:middle]])[1] <= aim else (middle, enough)
        kept = [*fixed, *order[:enough]]
        shipped, after = give_back(kept)
    return shipped, Repair(
        changed=settings.changed,
        aim=aim,
        patients=len(patients.inputs),
        before=before,
        after=after,
        kept_float=tuple(kept),
        float_share=sum(sizes[block] for block in kept) / sum(sizes.values()),
        ranking=tuple(ranking),
    )


def answer(model: Any, calibration: Sequence[Tensors]) -> NDArray[np.float64]:
    """Return the graph's probabilities for each patient, float64 (N, K)."""
    return np.array([answers[0] for answers in run_patients(model, ["probabilities"], calibration, "")], np.float64)


def answer_members(model: Any, patients: CalibrationPatients, description: str = "") -> NDArray[np.float64]:
    """Return the members' probabilities for each look at each patient, float64 (L * N, M, K)."""
    return np.array([answers[0] for answers in run_patients(model, ["members"], Looks(patients.inputs), description)], np.float64)


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
