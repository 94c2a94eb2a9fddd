"""Patients through a graph in onnxruntime: each in one thread, as many at once as there are cores.

Faster than all cores on one patient after another, and the answers do not depend on how many cores there are.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from edgekit.cores import count_threads
from edgekit.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from edgekit.types import Tensors


def run_patients(
    model: Any,
    outputs: list[str],
    patients: Sequence[Tensors],
    description: str,
    reduce: Callable[[list[NDArray[Any]]], Any] = lambda answers: answers,
) -> list[Any]:
    """Return the named outputs for each patient, in order, or what `reduce` makes of them.

    Parameters
    ----------
    model
        An ``onnx.ModelProto``.
    patients
        The graph's inputs of each.
    description
        Shown beside the progress bar; empty shows none.
    reduce
        Called with the outputs of a patient, in one of several threads.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    with ThreadPoolExecutor(count_threads()) as pool:
        answers = pool.map(lambda place: reduce(session.run(outputs, patients[place])), range(len(patients)))
        return list(track(answers, description, total=len(patients)) if description else answers)
