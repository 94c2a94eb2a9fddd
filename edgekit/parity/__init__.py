"""Is it still right? The verdict on an exported pipeline, from the same patients' films as the reference.

Two judgements, chosen by the recipe:

- *numerical* (every stage fp32): PASS when on every film the largest probability difference is at most `PROBABILITY_TOLERANCE`,
  the boxes differ by at most `BOX_TOLERANCE_PX`, and no brand and no decision changes; otherwise FAIL.
- *statistical*: with d = accuracy(reference) - accuracy(candidate), PASS when upper(d) <= margin and lower(agreement) >= floor;
  FAIL when lower(d) > margin or upper(agreement) < floor; otherwise INCONCLUSIVE. d has a two-sided 95 % Tango score interval,
  agreement a two-sided 95 % Clopper-Pearson interval.

*Patients without a label.* Brands need not be known, because accuracy can't fall by more than the share of changed answers. Agreement is
always over all patients.

- No brand is known: upper(d) is the upper end of the share of changed answers, so PASS means
  lower(agreement) >= max(floor, 1 - margin); FAIL means upper(agreement) < floor. At a margin of 1 % (and a floor that is no higher)
  no changed answer of 368 patients passes, 1 of 555, 7 of 1,500.
- Some are known: lower(d) is of the labelled patients alone; upper(d) is of labelled and unlabelled ones together, where each changed
  answer without truth counts as a right one that became wrong. So unlabelled patients help as long as their answers stay, and they
  don't dilute a drop among the labelled ones: that is a FAIL whatever the others say.
- A patient with a row of unknown brand is unlabelled. Patients whose known brand is none of the run's (also ``none``) count in agreement
  only, for neither side can be right about them.

*Negative control*: the same gate with every patient's films replaced by those of a patient of another brand, or where brands are unknown
of any other patient, must FAIL; a gate that lets them pass judges nothing, and its PASS is reported as INCONCLUSIVE.

A patient's answer is the most probable brand; where no construct was found there is none. A patient with several rows agrees when
every row does, and is right when every row is, so that the intervals count independent patients.

::

    films ─► recording (sessions answer) ─┐
    run ───► reference (kept answers) ────┴► comparison (what changed, verdict, control) ◄─ statistics (intervals)
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from edgekit.parity.comparison import BOX_TOLERANCE_PX, PROBABILITY_TOLERANCE, compare, read_gate, summarize
from edgekit.parity.recording import THREADS, identify_canvases, record
from edgekit.parity.reference import Reference
from edgekit.sessions import SESSIONS, open_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from edgekit.parity.recording import Recording
    from edgekit.sessions import SessionModule
    from edgekit.types import Bundle, Parity, Study

__all__ = ["BOX_TOLERANCE_PX", "PROBABILITY_TOLERANCE", "judge_recording", "measure_parity", "summarize"]


def measure_parity(
    bundle: Bundle, run: Path, studies: Sequence[Study], sessions: Iterable[str], modules: Mapping[str, SessionModule] = SESSIONS
) -> list[Parity]:
    """Judge a bundle in each session against the run that it was made from, in one pass over the films.

    The reference's answers are kept in the run folder; when they are there for these very canvases, torch does not run.

    Parameters
    ----------
    run
        The run folder named by the bundle's provenance (see ``edgekit.models.runfolder.find_run``).
    studies
        The patients to judge on.
    sessions
        Names.
    modules
        The modules by name.

    Returns
    -------
    One `Parity` a session, in order.

    Raises
    ------
    InputError
        A film can't be read, or a statistical verdict is asked of patients of other brands only.
    """
    reference = Reference(run, bundle, studies)
    expected = reference.find()
    with ExitStack() as stack:
        torch = None if expected else stack.enter_context(reference.open())
        opened = [stack.enter_context(open_session(name, bundle, THREADS, modules)) for name in sessions]
        recordings = record(opened, studies, bundle.views, bundle.canvas_side, torch)
    if expected is None:
        expected, *recordings = recordings
        reference.keep(expected)
    elif any(recording.pack != expected.pack for recording in recordings):  # the films make other canvases than those kept
        expected = reference.compute()
    gate = read_gate(bundle)
    return [compare(expected, recording, studies, gate) for recording in recordings]


def judge_recording(bundle: Bundle, run: Path, studies: Sequence[Study], answers: Recording) -> Parity:
    """Judge what a device answered for a pack of these patients' canvases (see ``edgekit.packs``).

    Parameters
    ----------
    run
        The run folder named by the bundle's provenance.
    studies
        The patients that the pack was made of.
    answers
        The device's (see ``edgekit.packs.read_outputs``).

    Raises
    ------
    InputError
        The device answered for other canvases, a film can't be read, or a statistical verdict is asked of patients of other brands only.
    """
    reference = Reference(run, bundle, studies)
    expected = reference.find()
    if expected is None or (
        answers.pack != expected.pack and identify_canvases(studies, bundle.views, bundle.canvas_side) != expected.pack
    ):
        expected = reference.compute()
    return compare(expected, answers, studies, read_gate(bundle))
