"""Train the members: EfficientNets on the detector's crops."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgekit.errors import InputError
from edgekit.models.classifier import Classifier, start_classifier
from edgekit.models.cropper import MARGIN, crop_and_resize, expand_boxes
from edgekit.training.logistic import softmax_coefficients
from edgekit.types import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.training.config import MembersConfig
    from edgekit.training.films import FilmSet

CONTEXT = 0.25
"""Share of the box's side kept around it on each side, so that jitter and rotation move over real surroundings."""

PROBE_DRAWS = 3
"""Augmented draws of each sample that the linear layer is first fitted on."""
PROBE_STRENGTH = 0.1
"""scikit-learn's C of that fit."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What one member learns from.

    Attributes
    ----------
    films
        int (N, 1) or, for ``concat``, (N, 2) (AP, lateral): film indices of each sample.
    brands
        int64 (N,), index of the brand.
    """

    films: NDArray[np.int64]
    brands: NDArray[np.int64]


def select_samples(member: str, films: FilmSet, boxes: NDArray[np.float32], brands: tuple[str, ...]) -> Samples:
    """Return the samples of `member`: the films of its view, or pairs, of patients with a known brand and a box to crop."""
    cropable = np.asarray(np.isfinite(boxes).all(axis=1))
    by_view = [films.film_of(view) for view in range(len(VIEWS))]
    by_view = [np.where((rows >= 0) & cropable[rows], rows, -1) for rows in by_view]
    if member == "concat":
        columns = np.stack(by_view, axis=1)
    elif member == "merge":
        columns = np.concatenate(by_view)[:, None]
    else:
        columns = by_view[VIEWS.index(member)][:, None]
    columns = columns[(columns >= 0).all(axis=1)]
    patients = films.study[columns[:, 0]]
    index = {brand: number for number, brand in enumerate(brands)}
    labels = np.array([index.get(films.studies[i].brand or "", -1) for i in patients], dtype=np.int64)
    return Samples(columns[labels >= 0], labels[labels >= 0])


def train_member(
    member: str,
    train: FilmSet,
    train_boxes: NDArray[np.float32],
    validation: FilmSet,
    validation_boxes: NDArray[np.float32],
    brands: tuple[str, ...],
    config: MembersConfig,
    device: torch.device,
    seed: int,
    weights: Path | None,
    report: Callable[[dict[str, float]], None],
) -> Classifier:
    """Train one member; the weights with the lowest validation loss win.

    Cross-entropy with each brand weighted by the inverse of its frequency, Adam, one-cycle learning rate with cosine annealing;
    flip, rotation, jitter of the box, contrast and inversion as augmentation. From ImageNet weights, the linear layer is first fitted
    on frozen features and BatchNorm keeps ImageNet's statistics: with few patients, fine-tuning under a random layer distorts the
    features first and learns second (Kumar et al., *Fine-tuning can distort pretrained features*, ICLR 2022).

    Parameters
    ----------
    member
        ``ap``, ``lateral``, ``concat`` or ``merge``.
    train_boxes, validation_boxes
        float32 (N, 4), the boxes to crop in canvas pixels (NaN: leave the film out).
    brands
        K brands in output order.
    weights
        ImageNet weights file; None takes the packaged ones.
    report
        Called after each epoch with its losses and validation accuracy.

    Returns
    -------
    Classifier in eval mode on the CPU.

    Raises
    ------
    InputError
        A split has no sample, or the loss became NaN.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    samples = select_samples(member, train, train_boxes, brands)
    held_out = select_samples(member, validation, validation_boxes, brands)
    for name, some in (("training", samples), ("validation", held_out)):
        if len(some.brands) < 2:
            raise InputError(f"member {member!r} has {len(some.brands)} {name} samples", "it needs films of its views with a brand")
    context = cache_context(train, train_boxes, config.side)
    crops = crop_films(validation, validation_boxes, held_out.films, config.side, member).to(device)
    targets = torch.from_numpy(held_out.brands).to(device)

    network = start_classifier(config.architecture, len(brands), config.init, weights)
    network.to(device).to(memory_format=torch.channels_last)  # twice as fast on a CPU
    counts = np.bincount(samples.brands, minlength=len(brands))
    if (counts == 0).any():
        raise InputError(f"member {member!r}: no training sample of {', '.join(b for b, n in zip(brands, counts, strict=True) if n == 0)}")
    class_weights = torch.tensor(len(samples.brands) / len(brands) / counts, dtype=torch.float32, device=device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    batches = max(len(samples.brands) // config.batch, 1)
    if config.init == "imagenet":
        probe_linear(network, context, samples, config, member, generator)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.epochs * batches)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    best_loss, best_state = float("inf"), copy.deepcopy(network.state_dict())
    for _ in range(config.epochs):
        network.train()
        if config.init == "imagenet":
            freeze_batch_norm(network)
        losses = []
        order = torch.randperm(len(samples.brands), generator=generator).numpy()
        for chosen in np.array_split(order, batches):
            batch = augment(context, samples.films[chosen], config, member, generator).to(device)
            target = torch.from_numpy(samples.brands[chosen]).to(device)
            with torch.autocast(device.type, enabled=device.type == "cuda"):
                loss = functional.cross_entropy(network(batch), target, class_weights, label_smoothing=config.label_smoothing)
            if not torch.isfinite(loss):
                raise InputError(f"member {member!r}: the loss became NaN", "lower [members] learning_rate")
            optimizer.zero_grad()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            losses.append(loss.item())
        probabilities = classify_crops(network, crops)
        validation_loss = float(functional.nll_loss(probabilities.clamp(min=1e-12).log(), targets))
        accuracy = float((probabilities.argmax(dim=1) == targets).float().mean())
        if not np.isfinite(validation_loss):
            raise InputError(f"member {member!r}: the validation loss became NaN", "lower [members] learning_rate")
        report({"loss": float(np.mean(losses)), "validation_loss": validation_loss, "validation_accuracy": accuracy})
        if validation_loss < best_loss:
            best_loss, best_state = validation_loss, copy.deepcopy(network.state_dict())
    network.load_state_dict(best_state)
    return network.cpu().eval()


def probe_linear(
    network: Classifier, context: Tensor, samples: Samples, config: MembersConfig, member: str, generator: torch.Generator
) -> None:
    """Fit the linear layer by logistic regression on the frozen features of `PROBE_DRAWS` augmented draws of every sample."""
    from sklearn.linear_model import LogisticRegression

    network.eval()
    device = next(network.parameters()).device
    features = []
    with torch.inference_mode():
        for _ in range(PROBE_DRAWS):
            for films in np.array_split(samples.films, -(-len(samples.films) // config.batch)):
                crops = augment(context, films, config, member, generator).to(device)
                features.append(network.network.forward_head(network.features(crops), pre_logits=True).cpu().numpy())
    model = LogisticRegression(C=PROBE_STRENGTH, class_weight="balanced", max_iter=2000)
    model.fit(np.concatenate(features), np.tile(samples.brands, PROBE_DRAWS))
    layer = network.network.get_classifier()
    with torch.no_grad():
        for parameter, fitted in zip((layer.weight, layer.bias), softmax_coefficients(model), strict=True):
            parameter.copy_(torch.from_numpy(fitted))


def freeze_batch_norm(network: Classifier) -> None:
    """Let BatchNorm use the statistics it has, also while training."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()


def cache_context(films: FilmSet, boxes: NDArray[np.float32], side: int) -> Tensor:
    """Crop every film once with `CONTEXT` around its box, at a scale of about one augmented crop pixel per pixel.

    Returns
    -------
    uint8 (N, 1, C, C); zeros where a film has no box.
    """
    size = round(side * (1 + 2 * CONTEXT) / (1 + 2 * MARGIN))
    context = torch.zeros(len(films), 1, size, size, dtype=torch.uint8)
    for index in np.flatnonzero(np.isfinite(boxes).all(axis=1)):
        canvas = torch.from_numpy(films.canvases[index]).float()[None, None]
        box = torch.from_numpy(boxes[index])[None]
        pad = (box[:, 2:] - box[:, :2]) * CONTEXT
        wide = torch.cat([box[:, :2] - pad, box[:, 2:] + pad], dim=1)
        context[index] = crop_padded(canvas, wide, size)[0].round().to(torch.uint8)
    return context


def crop_padded(canvas: Tensor, box: Tensor, size: int) -> Tensor:
    """Crop a box that may leave the canvas (1, 1, S, S); what is outside is black, as the canvas's own padding."""
    reach = int(torch.cat([-box, box - canvas.shape[-1]]).max().clamp(min=0).ceil())
    return crop_and_resize(functional.pad(canvas, [reach] * 4), box + reach, size, size)


def augment(context: Tensor, films: NDArray[np.int64], config: MembersConfig, member: str, generator: torch.Generator) -> Tensor:
    """Draw augmented crops.

    Flip, rotation and box jitter are one affine map, sampled once from the context crops, so that nothing is resampled twice.

    Parameters
    ----------
    context
        uint8 (N, 1, C, C) from `cache_context`.
    films
        int (B, 1) or (B, 2), film indices.

    Returns
    -------
    float32 (B, 1, side, side) in [0, 1].
    """
    count = len(films)

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    inner = (1 + 2 * MARGIN) / (1 + 2 * CONTEXT)  # the plain crop's share of the context crop
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    gain, offset = 1 + uniform(config.contrast), uniform(config.contrast / 2)
    invert = torch.rand(count, generator=generator) < 0.1  # C-arm films show metal dark
    halves = []
    for column in range(films.shape[1]):
        angle = uniform(config.rotation_degrees * np.pi / 180)
        scale_x, scale_y = inner * (1 + uniform(config.box_jitter)), inner * (1 + uniform(config.box_jitter))
        shift_x, shift_y = uniform(config.box_jitter) * inner, uniform(config.box_jitter) * inner
        cosine, sine = angle.cos(), angle.sin()
        theta = torch.stack(
            [
                torch.stack([scale_x * cosine * flip, -scale_y * sine, shift_x], dim=1),
                torch.stack([scale_x * sine * flip, scale_y * cosine, shift_y], dim=1),
            ],
            dim=1,
        )
        width = config.side // films.shape[1]
        grid = functional.affine_grid(theta, [count, 1, config.side, config.side], align_corners=False)
        squares = functional.grid_sample(context[films[:, column]].float() / 255, grid, align_corners=False)
        halves.append(functional.avg_pool2d(squares, (1, 2)) if member == "concat" else squares)
        assert halves[-1].shape[3] == width
    crops = torch.cat(halves, dim=3)
    crops = (crops - 0.5) * gain.reshape(-1, 1, 1, 1) + 0.5 + offset.reshape(-1, 1, 1, 1)
    return torch.where(invert.reshape(-1, 1, 1, 1), 1 - crops, crops).clamp(0, 1)


def crop_films(films: FilmSet, boxes: NDArray[np.float32], rows: NDArray[np.int64], side: int, member: str) -> Tensor:
    """Crop as the pipeline does.

    Parameters
    ----------
    rows
        int (N, 1), or (N, 2) for ``concat``: film indices.

    Returns
    -------
    float32 (N, 1, side, side) in [0, 1].
    """
    width = side // 2 if member == "concat" else side
    crops = torch.empty(len(rows), 1, side, side)
    for index, row in enumerate(rows):
        for column, film in enumerate(row):
            canvas = torch.from_numpy(films.canvases[film]).float()[None, None] / 255
            box = expand_boxes(torch.from_numpy(boxes[film])[None], canvas.shape[-1])
            crops[index, :, :, column * width : (column + 1) * width] = crop_and_resize(canvas, box, side, width)[0]
    return crops


def classify_crops(network: Classifier, crops: Tensor, batch: int = 32) -> Tensor:
    """Return probabilities float32 (N, K) of crops (N, 1, side, side), in eval mode."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(part).float().softmax(dim=1) for part in crops.split(batch)])  # type: ignore[no-untyped-call]
