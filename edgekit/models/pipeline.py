"""The whole pipeline as one module, which is one exported graph: detect, crop, classify, ensemble, explain, abstain.

Its tensors are listed in `edgekit.contract`. A film whose box score is below the threshold counts as not given. A task without a detector
takes the whole film, without the black around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.models.classifier import STRIDE
from edgekit.models.cropper import crop_and_resize, expand_boxes
from edgekit.task import EACH, SIDE_BY_SIDE

if TYPE_CHECKING:
    from edgekit.models.classifier import Classifier
    from edgekit.models.ensemble import Ensemble
    from edgekit.models.networks import Locator
    from edgekit.task import Task, View

IDENTIFIED, AMBIGUOUS, UNFAMILIAR, NOTHING_FOUND, SWAPPED = range(5)


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """What a run fixed about its pipeline.

    Attributes
    ----------
    task
        What it is asked.
    brands
        K brands in the order of `probabilities`.
    canvas_side, crop_side
        Sides in pixels of the input canvas and of a member's input.
    crop_margin
        Share of a box's side that is added on each side before cropping.
    black
        Gray level, 0 to 255, up to which what surrounds a whole film is none of it: padding, bars, and what JPEG makes of them.
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

    task: Task
    brands: tuple[str, ...]
    canvas_side: int
    crop_side: int
    crop_margin: float
    black: int
    members: tuple[str, ...]
    ensemble: str
    box_threshold: float
    view_margin: float
    coverage: float

    @property
    def sizes(self) -> dict[str, int]:
        """What the letters of `edgekit.contract` stand for."""
        cells = self.crop_side // STRIDE
        return {"S": self.canvas_side, "K": len(self.brands), "M": len(self.members), "h": cells, "w": cells}


class LogisticEnsemble(nn.Module):
    """The torch form of `edgekit.models.ensemble.Ensemble`: an affine map for each case, one selected by the films found.

    Parameters
    ----------
    ensemble
        The fitted ensemble.
    rows
        Members in the order of the ``members`` output; those the ensemble does not use get zero coefficients.
    n_brands
        K.
    cases
        The task's: the places of the views by case.
    """

    coefficients: Tensor
    intercepts: Tensor
    answerable: Tensor
    conformal: Tensor
    unfamiliar: Tensor

    def __init__(self, ensemble: Ensemble, rows: tuple[str, ...], n_brands: int, cases: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.views = list(cases.values())
        self.answers_all = set(cases) == set(ensemble.fitted)
        coefficients = torch.zeros(len(cases), n_brands, len(rows), n_brands)
        intercepts = torch.zeros(len(cases), n_brands)
        answerable, conformal, unfamiliar = torch.zeros(3, len(cases))
        for index, name in enumerate(cases):
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
        self.register_buffer("coefficients", coefficients.reshape(len(cases), n_brands, -1))
        self.register_buffer("intercepts", intercepts)
        self.register_buffer("answerable", answerable)
        self.register_buffer("conformal", conformal)
        self.register_buffer("unfamiliar", unfamiliar)

    def forward(self, members: Tensor, found: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Combine member probabilities (M, K) for the films `found` (V,), 0 or 1.

        Returns
        -------
        probabilities
            (K,), zeros when no fitted case covers the films found.
        conformal_threshold, unfamiliar_threshold
            (1,) each, of the case used.
        answered
            (1,), 0 where no fitted case covers the films found.
        """
        case = self.select(found) * self.answerable
        logits = (self.coefficients @ members.flatten()) + self.intercepts  # (cases, K)
        probabilities = (logits.softmax(dim=1) * case.unsqueeze(1)).sum(dim=0)
        thresholds = (self.conformal * case).sum(dim=0, keepdim=True), (self.unfamiliar * case).sum(dim=0, keepdim=True)
        answered = found if self.answers_all else case
        return probabilities, *thresholds, (answered.sum().reshape(1) > 0).float()

    def select(self, found: Tensor) -> Tensor:
        """Return 1 for the case of exactly the films `found` (V,), 0 for the others; float (cases,)."""
        given = [found[place : place + 1] for place in range(found.shape[0])]
        selected = []
        for views in self.views:
            product = given[views[0]]
            for place in views[1:]:
                product = product * given[place]
            for place in range(len(given)):
                product = product if place in views else product * (1 - given[place])
            selected.append(product)
        return torch.cat(selected)


class Pipeline(nn.Module):
    """A canvas for each view in, the whole answer out; the tensors are in `edgekit.contract`.

    The honest limits of three outputs today:

    - `prediction_set` is split-conformal (least ambiguous set, Sadinle et al. 2019) with a threshold per case from cross-fitted
      probabilities of the validation patients. The same patients chose the members' epoch, so coverage is nominal.
    - `unfamiliarity` is one minus the largest of the members' mean probabilities (maximum softmax probability, Hendrycks & Gimpel
      2017): it sees what confuses the members, and can miss what they are confidently wrong about.
    - `decision` calls films swapped as soon as one film looks more like another view by `view_margin`.

    Parameters
    ----------
    spec
        What the run fixed.
    detector
        Trained; None where the task takes whole films.
    members
        Trained, by name: those of ``spec.members``.
    ensemble
        The fitted ensemble that answers; its members are among ``spec.members``.
    """

    def __init__(self, spec: PipelineSpec, detector: Locator | None, members: dict[str, Classifier], ensemble: Ensemble) -> None:
        super().__init__()
        self.spec = spec
        self.detector = detector
        self.members = nn.ModuleDict({name: members[name] for name in spec.members})
        self.ensemble = LogisticEnsemble(ensemble, spec.members, len(spec.brands), spec.task.cases)
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Answer for one patient; inputs and outputs are in the order of `edgekit.contract`."""
        spec = self.spec
        *films, present = inputs
        # Each film is cast before they are joined: TensorRT takes uint8 inputs straight into a Cast only.
        canvases = torch.cat([film.float() for film in films]) / 255.0
        boxes, box_scores, view_scores = self.find(canvases)
        given = (present > 0.5).float()
        found = given if self.detector is None else given * (box_scores >= spec.box_threshold).float()

        crops = expand_boxes(boxes, spec.canvas_side, spec.crop_margin)
        rows, features = self.classify(canvases, crops, found)
        probabilities, conformal_threshold, unfamiliar_threshold, answered = self.ensemble(rows, found)

        top = (torch.arange(len(spec.brands), device=present.device) == probabilities.unsqueeze(0).argmax(dim=1)).float()
        heatmaps = torch.stack([self.explain(features, view, top) * found[place] for place, view in enumerate(spec.task.views)])
        prediction_set = (probabilities >= conformal_threshold).to(torch.int32) * answered.to(torch.int32)
        unfamiliarity = (1.0 - mean_of_evaluated(rows).amax(dim=0)).reshape(1)
        unfamiliar = unfamiliarity > unfamiliar_threshold
        decision = self.decide(found, answered, view_scores, unfamiliar, prediction_set)
        return (
            probabilities,
            rows,
            boxes * given.unsqueeze(1),
            box_scores * given,
            found.to(torch.int32),
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
        """Find what is cropped on canvases (V, 1, S, S): boxes (V, 4) in canvas pixels, scores (V,) and view scores (V, V).

        The detector sees area-averaged canvases.
        """
        if self.detector is None:
            count = canvases.shape[0]
            return find_film(canvases, self.spec.black), torch.ones(count, device=canvases.device), torch.eye(count, device=canvases.device)
        ratio = self.spec.canvas_side // self.detector.side
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
            Feature maps by member, (1, C, h, w), or with a row for each of its views where it looks at each.
        """
        side, task = self.spec.crop_side, self.spec.task
        squares = crop_and_resize(canvases, crops, side, side)
        rows, features = [], {}
        for name in self.spec.members:
            member, places = self.member(name), [task.place(view) for view in task.member(name).views]
            layout = task.member(name).layout
            if layout == EACH:
                films, usable = pick(squares, places), pick(found, places)
                features[name] = member.features(films)
                probabilities = member.classify(features[name]).softmax(dim=1) * usable.unsqueeze(1)
                rows.append(probabilities.sum(dim=0, keepdim=True) / usable.sum().clamp(min=1.0))
                continue
            if layout == SIDE_BY_SIDE:
                strips = crop_and_resize(canvases, crops, side, side // len(places))
                film = torch.cat([strips[place : place + 1] for place in places], dim=3)
            else:
                film = squares[places[0] : places[0] + 1]
            usable = found[places[0]]
            for place in places[1:]:
                usable = usable * found[place]
            features[name] = member.features(film)
            rows.append(member.classify(features[name]).softmax(dim=1) * usable)
        return torch.cat(rows), features

    def explain(self, features: dict[str, Tensor], view: View, top: Tensor) -> Tensor:
        """Class activation map (Zhou et al. 2016) of the brand `top` (one-hot (K,)) on one film's crop, (h, w) in [0, 1].

        For global average pooling and one linear layer it equals Grad-CAM up to scale (Selvaraju et al. 2017, section 3.1), so
        no gradient is needed in the graph.
        """
        task = self.spec.task
        name = next((name for name in task.looking_alone(view) if name in features), None)
        if name is None:
            any_map = next(iter(features.values()))
            return torch.zeros(any_map.shape[2], any_map.shape[2], device=top.device)
        row = features[name][task.member(name).views.index(view)]
        weights = top @ self.member(name).brand_weights
        activation = functional.relu((weights.reshape(-1, 1, 1) * row).sum(dim=0))
        return activation / activation.flatten().amax(dim=0).clamp(min=1e-6)

    def decide(self, found: Tensor, answered: Tensor, view_scores: Tensor, unfamiliar: Tensor, prediction_set: Tensor) -> Tensor:
        """Apply the precedence: no construct found > films swapped > unfamiliar > ambiguous > identified. int32 (1,)."""
        decision = (prediction_set.sum().reshape(1) != 1).to(torch.int32) * AMBIGUOUS
        decision = torch.where(unfamiliar, torch.full_like(decision, UNFAMILIAR), decision)
        if self.detector is not None and len(self.spec.task.views) > 1:
            swapped = ((self.compare_views(view_scores) > self.spec.view_margin).float() * found).sum().reshape(1) > 0
            decision = torch.where(swapped, torch.full_like(decision, SWAPPED), decision)
        return torch.where(answered > 0, decision, torch.full_like(decision, NOTHING_FOUND))

    def compare_views(self, view_scores: Tensor) -> Tensor:
        """Return by how much each film looks more like another view than like its own; float (V,)."""
        places = range(len(self.spec.task.views))
        differences = []
        for place in places:
            others = [view_scores[place, other] for other in places if other != place]
            highest = others[0]
            for other in others[1:]:
                highest = torch.maximum(highest, other)
            differences.append(highest - view_scores[place, place])
        return torch.stack(differences)


def pick(rows: Tensor, places: list[int]) -> Tensor:
    """Return some rows; all of them as they are."""
    return rows if places == list(range(rows.shape[0])) else torch.cat([rows[place : place + 1] for place in places])


def find_film(canvases: Tensor, black: int) -> Tensor:
    """Find the film on each canvas float (N, 1, S, S) in [0, 1]: the box around all that is brighter than the gray level `black`.

    A canvas without such a pixel has the whole canvas.

    Returns
    -------
    float (N, 4), x0 y0 x1 y1 in canvas pixels.
    """
    side = canvases.shape[3]
    edges = torch.arange(side, device=canvases.device).to(canvases.dtype)
    ends = []
    for axis in (2, 1):  # columns, rows
        bright = (canvases[:, 0].amax(dim=3 - axis) > black / 255).to(canvases.dtype)  # (N, S)
        low = side - (bright * (side - edges)).amax(dim=1)
        high = (bright * (edges + 1)).amax(dim=1)
        empty = (high <= 0).to(canvases.dtype)
        ends += [low * (1 - empty), high + empty * side]
    return torch.stack([ends[0], ends[2], ends[1], ends[3]], dim=1)


def mean_of_evaluated(rows: Tensor) -> Tensor:
    """Mean (K,) of the member rows (M, K) that could be evaluated; zeros when none could."""
    evaluated = rows.sum(dim=1)  # one or zero each
    return rows.sum(dim=0) / evaluated.sum().clamp(min=1.0)
