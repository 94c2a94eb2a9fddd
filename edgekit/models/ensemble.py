"""Logistic ensembles: multinomial logistic regression over the members' probability vectors.

Each ensemble answers the cases of its task (`edgekit.task.Task.cases`) with coefficients of their own, fitted for the films a patient
has. A case that none of its members can evaluate is absent.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Coefficients and thresholds of one case.

    Attributes
    ----------
    members
        The members used, in feature order.
    coefficients
        float32 (K, len(members) * K).
    intercepts
        float32 (K,).
    regularisation
        scikit-learn's C, chosen by cross-validation.
    conformal_threshold
        A brand is in the prediction set when its probability is at least this.
    unfamiliar_threshold
        The film is called unfamiliar when its unfamiliarity exceeds this.
    """

    members: tuple[str, ...]
    coefficients: NDArray[np.float32]
    intercepts: NDArray[np.float32]
    regularisation: float
    conformal_threshold: float
    unfamiliar_threshold: float


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """A combination of members.

    Attributes
    ----------
    name
        The members joined by ``+``, or ``all``.
    members
        Every member that some case uses.
    fitted
        The cases it can answer, by name.
    validation_log_loss
        Cross-validated log loss of the case with most films, on the validation patients; the exported ensemble is chosen by it.
    """

    name: str
    members: tuple[str, ...]
    fitted: dict[str, Case]
    validation_log_loss: float

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases it can answer."""
        return tuple(self.fitted)

    def predict(
        self, member_probabilities: dict[str, NDArray[np.float32]], found: NDArray[np.bool_], cases: dict[str, tuple[int, ...]]
    ) -> NDArray[np.float32]:
        """Combine the members' probabilities.

        Parameters
        ----------
        member_probabilities
            float32 (N, K) by member.
        found
            bool (N, V), whether the patient has the film of a view (found by the detector).
        cases
            The task's: the places of the views by case.

        Returns
        -------
        float32 (N, K); rows that no fitted case covers are zeros.
        """
        first = next(iter(member_probabilities.values()))
        result = np.zeros_like(first, dtype=np.float32)
        for name, case in self.fitted.items():
            wanted = np.isin(np.arange(found.shape[1]), cases[name])
            rows = (found == wanted).all(axis=1)
            features = np.concatenate([member_probabilities[member][rows] for member in case.members], axis=1)
            logits = features @ case.coefficients.T + case.intercepts
            exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
            result[rows] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return result

    def to_json(self) -> dict[str, Any]:
        """Return a document that `from_json` reads back."""
        document = asdict(self)
        for case in document["fitted"].values():
            case["coefficients"] = case["coefficients"].tolist()
            case["intercepts"] = case["intercepts"].tolist()
        return document

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Ensemble:
        """Read what `to_json` wrote."""
        fitted = {
            name: Case(
                members=tuple(case["members"]),
                coefficients=np.asarray(case["coefficients"], dtype=np.float32),
                intercepts=np.asarray(case["intercepts"], dtype=np.float32),
                regularisation=case["regularisation"],
                conformal_threshold=case["conformal_threshold"],
                unfamiliar_threshold=case["unfamiliar_threshold"],
            )
            for name, case in document["fitted"].items()
        }
        return cls(document["name"], tuple(document["members"]), fitted, document["validation_log_loss"])
