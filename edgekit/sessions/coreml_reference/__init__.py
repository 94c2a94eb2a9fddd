"""Core ML programs evaluated without a Mac: the file is read and its operators are computed with torch on the CPU.

It proves the file and its arithmetic, not the device: reports say *interpreted*. `interpret` takes any ML Program, not only edgekit's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from edgekit.contract import OUTPUTS
from edgekit.errors import InputError
from edgekit.sessions.about import About
from edgekit.sessions.inputs import check_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from edgekit.types import Bundle, Session, Tensors

ABOUT = About(extras=("train", "export"), takes_threads=True, stands_in_for="a device of Apple's", interprets=True)


def interpret(package: Path, half: bool | None = None) -> Callable[[Tensors], Tensors]:
    """Open an ``.mlpackage`` that holds an ML Program.

    Parameters
    ----------
    package
        The package's folder.
    half
        None: floating values are computed in float32, and what the program declares as float16 is rounded to it after every
        operator. False: everything stays float32. True: every floating value is rounded to float16.

    Returns
    -------
    Maps arrays by input name to arrays by output name. An image is an array (1, channels, height, width) of 0 to 255.

    Raises
    ------
    InputError
        The package is damaged, or has an operator that is not known: the message names it and where it is.

    Examples
    --------
    >>> interpret(Path("model.mlpackage"))({"image": numpy.zeros((1, 3, 224, 224), "uint8")})  # doctest: +SKIP
    """
    from edgekit.sessions.coreml_reference.program import Program

    return Program(package, half)


def open_session(bundle: Bundle, threads: int | None = None) -> Session:
    """Open the bundle's package; see `edgekit.sessions.SessionModule`."""
    return CoreMLReferenceSession(bundle.model, bundle.manifest.tensors["inputs"], threads)


class CoreMLReferenceSession:
    """An exported package, interpreted.

    Parameters
    ----------
    model
        The ``.mlpackage``.
    tensors
        Its inputs; see `edgekit.sessions.inputs.check_inputs`.
    threads
        Threads within an operator; None leaves torch's choice. They are the whole process's until the session is closed.
    """

    name = "coreml-reference"

    def __init__(self, model: Path, tensors: Mapping[str, Any], threads: int | None = None) -> None:
        import torch

        self._threads_before = torch.get_num_threads()
        if threads is not None:
            torch.set_num_threads(threads)
        self._tensors = tensors
        self._program = interpret(model)
        self.runtime = f"interpreted with torch {torch.__version__} cpu, float16 rounded after every operator"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        import torch

        torch.set_num_threads(self._threads_before)
        del self._program

    def infer(self, inputs: Tensors) -> Tensors:
        """Run the program.

        Raises
        ------
        InputError
            A tensor is missing or has another dtype or shape than the graph's, or the program has other outputs.
        """
        check_inputs(inputs, self._tensors)
        answer = self._program(inputs)
        if missing := [name for name in OUTPUTS if name not in answer]:
            raise InputError(f"the program has no output {missing[0]!r}", "export it again")
        return {name: answer[name] for name in OUTPUTS}
