"""The whole pipeline as one module, which is one exported graph: detect, crop, classify, ensemble, explain, abstain.

Inputs, fixed names, dtypes and shapes:

========== ===================== =====================================================
`ap`        uint8 (1, 1, S, S)    canvas; zeros where the film is missing
`lateral`   uint8 (1, 1, S, S)    canvas; zeros where the film is missing
`present`   float32 (2,)          1 where the film was given (ap, lateral)
========== ===================== =====================================================

Outputs:

================= ================= ===================================================================================
`probabilities`    float32 (K,)      from the ensemble fitted for the films found; zeros when there is none
`members`          float32 (M, K)    each member's own; a row that can't be evaluated is zeros
`boxes`            float32 (2, 4)    x0, y0, x1, y1 of the construct, canvas pixels; zeros where no film was given
`box_scores`       float32 (2,)      detector confidence; zero where no film was given
`view_scores`      float32 (2, 2)    per film: how AP-like, how lateral-like
`heatmaps`         float32 (2, h, w) class activation of the top brand on each crop, [0, 1]; zeros when absent
`prediction_set`   int32 (K,)        1 for the brands in the conformal set
`unfamiliarity`    float32 (1,)      see `Pipeline`
`decision`         int32 (1,)        index into ``edgekit.types.DECISIONS``
================= ================= ===================================================================================

A film whose box score is below the threshold counts as not given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.models.cropper import crop_and_resize, expand_boxes
from edgekit.models.ensemble import CASES, Ensemble

if TYPE_CHECKING:
    from edgekit.models.classifier import Classifier
    from edgekit.models.detector import Detector

FOUND, AMBIGUOUS, UNFAMILIAR, NOTHING_FOUND, SWAPPED = range(5)


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """What a run fixed about its pipeline.

    Attributes
    ----------
    brands
        K brands in the order of `probabilities`.
    canvas_side, detector_side, crop_side
        Sides in pixels of the input canvas, the detector's input and a member's input.
    members
        Rows of the `members` output.
    ensemble
        Name of the ensemble that answers.
    box_threshold
        A film whose box score is below it counts as not given.
    view_margin
        A film is in the wrong slot when the other view's score exceeds its own by more than this.
    coverage
        Nominal coverage of the prediction set.
    """

    brands: tuple[str, ...]
    canvas_side: int
    detector_side: int
    crop_side: int
    members: tuple[str, ...]
    ensemble: str
    box_threshold: float
    view_margin: float
    coverage: float


class LogisticEnsemble(nn.Module):
    """The torch form of `edgekit.models.ensemble.Ensemble`: three affine maps, one selected by the films found.

    Parameters
    ----------
    ensemble
        The fitted ensemble.
    rows
        Members in the order of the ``members`` output; those the ensemble does not use get zero coefficients.
    n_brands
        K.
    """

    coefficients: Tensor
    intercepts: Tensor
    answerable: Tensor
    conformal: Tensor
    unfamiliar: Tensor

    def __init__(self, ensemble: Ensemble, rows: tuple[str, ...], n_brands: int) -> None:
        super().__init__()
        coefficients = torch.zeros(len(CASES), n_brands, len(rows), n_brands)
        intercepts = torch.zeros(len(CASES), n_brands)
        answerable, conformal, unfamiliar = torch.zeros(3, len(CASES))
        for index, name in enumerate(CASES):
            case = ensemble.fitted.get(name)
            if case is None:
                continue
            blocks = torch.from_numpy(case.coefficients).reshape(n_brands, len(case.members), n_brands)
            for block, member in enumerate(case.members):
                coefficients[index, :, rows.index(member)] = blocks[:, block]
            intercepts[index] = torch.from_numpy(case.intercepts)
            answerable[index] = 1.0
            conformal[index] = case.conformal_threshold
            unfamiliar[index] = case.unfamiliar_threshold
        self.register_buffer("coefficients", coefficients.reshape(len(CASES), n_brands, -1))
        self.register_buffer("intercepts", intercepts)
        self.register_buffer("answerable", answerable)
        self.register_buffer("conformal", conformal)
        self.register_buffer("unfamiliar", unfamiliar)

    def forward(self, members: Tensor, found: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Combine member probabilities (M, K) for the films `found` (2,), 0 or 1.

        Returns
        -------
        probabilities
            (K,), zeros when no fitted case covers the films found.
        conformal_threshold, unfamiliar_threshold
            (1,) each, of the case used.
        """
        ap, lateral = found[0:1], found[1:2]
        case = torch.cat([ap * (1 - lateral), lateral * (1 - ap), ap * lateral]) * self.answerable
        logits = (self.coefficients @ members.flatten()) + self.intercepts  # (3, K)
        probabilities = (logits.softmax(dim=1) * case.unsqueeze(1)).sum(dim=0)
        return probabilities, (self.conformal * case).sum(dim=0, keepdim=True), (self.unfamiliar * case).sum(dim=0, keepdim=True)


class Pipeline(nn.Module):
    """Two canvases in, the whole answer out. See the module's docstring for the tensors.

    The honest limits of three outputs today:

    - `prediction_set` is split-conformal (least ambiguous set, Sadinle et al. 2019) with a threshold per case from cross-fitted
      probabilities of the validation patients. The same patients chose the members' epoch, so coverage is nominal.
    - `unfamiliarity` is one minus the largest of the members' mean probabilities (maximum softmax probability, Hendrycks & Gimpel
      2017): it sees what confuses the members, and can miss what they are confidently wrong about.
    - `decision` calls films swapped as soon as one film looks more like the other view by `view_margin`.

    Parameters
    ----------
    spec
        What the run fixed.
    detector, members
        Trained modules; `members` has the keys of ``spec.members``.
    ensemble
        The fitted ensemble that answers; its members are among ``spec.members``.
    """

    def __init__(self, spec: PipelineSpec, detector: Detector, members: dict[str, Classifier], ensemble: Ensemble) -> None:
        super().__init__()
        self.spec = spec
        self.detector = detector
        self.members = nn.ModuleDict({name: members[name] for name in spec.members})
        self.ensemble = LogisticEnsemble(ensemble, spec.members, len(spec.brands))
        self.eval()

    def forward(self, ap: Tensor, lateral: Tensor, present: Tensor) -> tuple[Tensor, ...]:
        """Answer for one patient; the tensors are in ``edgekit.types.OUTPUTS`` order."""
        spec = self.spec
        # Each film is cast before they are joined: TensorRT takes uint8 inputs straight into a Cast only.
        canvases = torch.cat([ap.float(), lateral.float()]) / 255.0
        boxes, box_scores, view_scores = self.find(canvases)
        given = (present > 0.5).float()
        found = given * (box_scores >= spec.box_threshold).float()

        crops = expand_boxes(boxes, spec.canvas_side)
        rows, features = self.classify(canvases, crops, found)
        probabilities, conformal_threshold, unfamiliar_threshold = self.ensemble(rows, found)

        answered = (found.sum() > 0).float()
        top = (torch.arange(len(spec.brands), device=ap.device) == probabilities.unsqueeze(0).argmax(dim=1)).float()
        heatmaps = torch.stack([self.explain(features, view, top) * found[view] for view in (0, 1)])
        prediction_set = (probabilities >= conformal_threshold).to(torch.int32) * answered.to(torch.int32)
        unfamiliarity = (1.0 - mean_of_evaluated(rows).amax(dim=0)).reshape(1)
        decision = self.decide(given, found, view_scores, unfamiliarity > unfamiliar_threshold, prediction_set)
        return (
            probabilities,
            rows,
            boxes * given.unsqueeze(1),
            box_scores * given,
            view_scores * given.unsqueeze(1),
            heatmaps,
            prediction_set,
            unfamiliarity,
            decision,
        )

    def member(self, name: str) -> Classifier:
        """Return one member by name."""
        return cast("Classifier", self.members[name])

    def find(self, canvases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run the detector on area-averaged canvases (2, 1, S, S); boxes come back in canvas pixels."""
        ratio = self.spec.canvas_side // self.spec.detector_side
        films = functional.avg_pool2d(canvases, ratio) if ratio > 1 else canvases
        boxes, box_scores, view_scores = self.detector(films)
        return boxes * ratio, box_scores, view_scores

    def classify(self, canvases: Tensor, crops: Tensor, found: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the members on their crops.

        Returns
        -------
        rows
            (M, K) probabilities; zeros where the member's films were not found.
        features
            Feature maps by member, (1, C, h, w) or (2, C, h, w) for ``merge``.
        """
        side = self.spec.crop_side
        squares = crop_and_resize(canvases, crops, side, side)
        rows, features = [], {}
        for name in self.spec.members:
            member = self.member(name)
            if name == "merge":
                features[name] = member.features(squares)
                probabilities = member.classify(features[name]).softmax(dim=1) * found.unsqueeze(1)
                rows.append(probabilities.sum(dim=0, keepdim=True) / found.sum().clamp(min=1.0))
                continue
            if name == "concat":
                halves = crop_and_resize(canvases, crops, side, side // 2)
                film, usable = torch.cat([halves[0:1], halves[1:2]], dim=3), found[0] * found[1]
            else:
                view = ("ap", "lateral").index(name)
                film, usable = squares[view : view + 1], found[view]
            features[name] = member.features(film)
            rows.append(member.classify(features[name]).softmax(dim=1) * usable)
        return torch.cat(rows), features

    def explain(self, features: dict[str, Tensor], view: int, top: Tensor) -> Tensor:
        """Class activation map (Zhou et al. 2016) of the brand `top` (one-hot (K,)) on one film's crop, (h, w) in [0, 1].

        For global average pooling and one linear layer it equals Grad-CAM up to scale (Selvaraju et al. 2017, section 3.1), so
        no gradient is needed in the graph.
        """
        name = next((name for name in (("ap", "lateral")[view], "merge") if name in features), None)
        if name is None:
            any_map = next(iter(features.values()))
            return torch.zeros(any_map.shape[2], any_map.shape[2], device=top.device)
        row = features[name][view if name == "merge" else 0]
        weights = top @ self.member(name).brand_weights
        activation = functional.relu((weights.reshape(-1, 1, 1) * row).sum(dim=0))
        return activation / activation.flatten().amax(dim=0).clamp(min=1e-6)

    def decide(self, given: Tensor, found: Tensor, view_scores: Tensor, unfamiliar: Tensor, prediction_set: Tensor) -> Tensor:
        """Apply the precedence: no construct found > films swapped > unfamiliar > ambiguous > identified. int32 (1,)."""
        other = torch.stack([view_scores[0, 1] - view_scores[0, 0], view_scores[1, 0] - view_scores[1, 1]])
        swapped = ((other > self.spec.view_margin).float() * found * given).sum().reshape(1) > 0
        decision = (prediction_set.sum().reshape(1) != 1).to(torch.int32) * AMBIGUOUS
        decision = torch.where(unfamiliar, torch.full_like(decision, UNFAMILIAR), decision)
        decision = torch.where(swapped, torch.full_like(decision, SWAPPED), decision)
        return torch.where(found.sum().reshape(1) > 0, decision, torch.full_like(decision, NOTHING_FOUND))


def mean_of_evaluated(rows: Tensor) -> Tensor:
    """Mean (K,) of the member rows (M, K) that could be evaluated; zeros when none could."""
    evaluated = rows.sum(dim=1)  # one or zero each
    return rows.sum(dim=0) / evaluated.sum().clamp(min=1.0)
