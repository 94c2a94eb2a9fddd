"""Train the members: EfficientNets on the detector's crops."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edgekit.errors import InputError
from edgekit.models.classifier import Classifier, start_classifier
from edgekit.models.logistic import softmax_coefficients
from edgekit.training.checkpoints import load_checkpoint, save_checkpoint
from edgekit.training.crops import Samples, augment, cache_context, classify_crops, crop_films, select_samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from accelerate import Accelerator
    from numpy.typing import NDArray

    from edgekit.task import Member
    from edgekit.training.config import MembersConfig
    from edgekit.training.films import FilmSet

PROBE_DRAWS = 3
"""Augmented draws of each sample that the linear layer is first fitted on."""
PROBE_STRENGTH = 0.1
"""scikit-learn's C of that fit."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What one member learns from, and is chosen by.

    Attributes
    ----------
    brands
        K brands in output order.
    samples
        Training samples; their films are rows of `context`.
    context
        uint8 (N, 1, C, C), or (2 N, 1, C, C) with the films' photos after them.
    crops
        float32 (V, 1, side, side): validation crops.
    targets
        int64 (V,): index of their brand.
    """

    member: Member
    brands: tuple[str, ...]
    samples: Samples
    context: Tensor
    crops: Tensor
    targets: Tensor

    @property
    def class_weights(self) -> Tensor:
        """Float32 (K,), the inverse of each brand's frequency; a brand of average frequency has 1."""
        counts = np.bincount(self.samples.brands, minlength=len(self.brands))
        return torch.tensor(len(self.samples.brands) / len(self.brands) / counts, dtype=torch.float32)


def prepare_lesson(
    member: Member,
    films: dict[str, FilmSet],
    boxes: dict[str, NDArray[np.float32]],
    photos: NDArray[np.uint8] | None,
    brands: tuple[str, ...],
    side: int,
    margin: float,
) -> Lesson:
    """Crop what `member` learns from.

    Parameters
    ----------
    films, boxes
        By split, ``train`` and ``validation``; boxes float32 (N, 4) in canvas pixels (NaN: leave the film out).
    photos
        uint8 (N, S, S), the training films photographed; None where no photos are shown.
    side, margin
        See `edgekit.training.crops.cache_context`.

    Raises
    ------
    InputError
        A split has no sample, or training none of some brand.
    """
    samples, held_out = (select_samples(member, films[split], boxes[split], brands) for split in ("train", "validation"))
    for name, some in (("training", samples), ("validation", held_out)):
        if len(some.brands) < 2:
            raise InputError(f"member {member.name!r} has {len(some.brands)} {name} samples", "it needs films of its views with a brand")
    if absent := [brand for number, brand in enumerate(brands) if number not in samples.brands]:
        raise InputError(
            f"member {member.name!r}: no training sample of {', '.join(absent)}", "annotate boxes, or train the detector longer"
        )
    shown = [films["train"].canvases] if photos is None else [films["train"].canvases, photos]
    used = np.full_like(boxes["train"], np.nan)  # the other view's films are not cropped
    used[samples.films] = boxes["train"][samples.films]
    return Lesson(
        member,
        brands,
        samples,
        torch.cat([cache_context(canvases, used, side, margin) for canvases in shown]),
        crop_films(films["validation"], boxes["validation"], held_out.films, side, margin),
        torch.from_numpy(held_out.brands),
    )


def train_member(
    lesson: Lesson,
    config: MembersConfig,
    accelerator: Accelerator,
    seed: int,
    weights: Path | None,
    checkpoints: Path,
    report: Callable[[dict[str, float]], None],
) -> Classifier:
    """Train one member; the weights with the lowest validation loss win.

    Cross-entropy with each brand weighted by the inverse of its frequency, Adam, one-cycle learning rate with cosine annealing;
    flip, rotation, jitter of the box, inversion, contrast, gamma, blur and noise as augmentation. From ImageNet weights, the linear
    layer is first fitted on frozen features and BatchNorm keeps ImageNet's statistics: with few patients, fine-tuning under a random
    layer distorts the features first and learns second (Kumar et al., *Fine-tuning can distort pretrained features*, ICLR 2022).

    Everything random comes from one generator whose state is in the checkpoint, so that a training which is taken up again ends with
    the same weights (on a CPU with as many threads, to the bit). Processes that ``accelerate launch`` started share each batch.

    With `MembersConfig.averaging` it is the weights' running average that is validated and kept (Morales-Brotons et al., *Exponential
    moving average of weights in deep learning: dynamics and benefits*, TMLR 2024).

    Parameters
    ----------
    weights
        ImageNet weights file; None takes the packaged ones.
    checkpoints
        Folder for the state after each epoch; training goes on from what it holds.
    report
        Called after each epoch with its losses and validation accuracy.

    Returns
    -------
    Classifier in eval mode on the CPU.

    Raises
    ------
    InputError
        The loss became NaN, or not even two samples fit the GPU's memory.
    """

    def train(batch: int) -> Classifier:
        return _train_with(batch, lesson, config, accelerator, seed, weights, checkpoints, report)

    if accelerator.device.type != "cuda" or accelerator.num_processes > 1:
        return train(config.batch)
    state = load_checkpoint(checkpoints)
    return fit_batch(train, config.cuda_batch if state is None else state["batch"], lesson.member.name)


def fit_batch(train: Callable[[int], Classifier], largest: int, member: str) -> Classifier:
    """Train with the largest batch that fits the GPU's memory, from `largest` downwards.

    Raises
    ------
    InputError
        Not even two samples fit.
    """
    from accelerate.utils import find_executable_batch_size

    def attempt(batch_size: int) -> Classifier:
        if batch_size < 2:  # BatchNorm needs two
            raise InputError(
                f"member {member!r}: a batch of two does not fit the GPU's memory", "close other programs, or lower [members] side"
            )
        return train(batch_size)

    fitted: Classifier = find_executable_batch_size(attempt, starting_batch_size=largest)()
    return fitted


def _train_with(
    batch: int,
    lesson: Lesson,
    config: MembersConfig,
    accelerator: Accelerator,
    seed: int,
    weights: Path | None,
    checkpoints: Path,
    report: Callable[[dict[str, float]], None],
) -> Classifier:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = start_classifier(config.architecture, len(lesson.brands), config.init, weights)
    freeze_stages(network, config.frozen_stages)
    network.to(accelerator.device).to(memory_format=torch.channels_last)  # twice as fast on a CPU
    batches = max(len(lesson.samples.brands) // batch, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.epochs * batches)
    state = load_checkpoint(checkpoints)
    if state is None:
        if config.init == "imagenet":
            probe_linear(network, lesson, config, generator)
        best_loss, best = float("inf"), copy.deepcopy(network.state_dict())
    else:
        if state["batch"] != batch:
            raise InputError(
                f"member {lesson.member.name!r} was begun with batches of {state['batch']}, and now {batch} would be used",
                f"free the GPU's memory that it had, or delete {checkpoints} to train this member again",
            )
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        generator.set_state(state["generator"])
        best_loss, best = state["best_loss"], state["best"]
    average = get_ema_multi_avg_fn(config.averaging)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
    if state is not None:
        averaged.load_state_dict(state["averaged"])
    shared, stepper = accelerator.prepare(network, optimizer)
    if state is not None and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state["scaler"])
    for epoch in range(0 if state is None else state["epoch"] + 1, config.epochs):
        network.train()
        if config.init == "imagenet":
            freeze_batch_norm(network)
        losses = []
        order = torch.randperm(len(lesson.samples.brands), generator=generator).numpy()
        for chosen in np.array_split(order, batches):
            loss = share_loss(shared, lesson, chosen, config, accelerator, generator)
            stepper.zero_grad()
            accelerator.backward(loss)
            stepper.step()
            schedule.step()
            averaged.update_parameters(network)
            losses.append(float(accelerator.reduce(loss.detach(), "mean")))
            if not np.isfinite(losses[-1]):
                raise InputError(
                    f"member {lesson.member.name!r}: the loss became NaN in epoch {epoch + 1}", "lower [members] learning_rate"
                )
        figures = validate(averaged.module, lesson, accelerator)
        if not np.isfinite(figures["validation_loss"]):
            raise InputError(f"member {lesson.member.name!r}: the validation loss became NaN", "lower [members] learning_rate")
        if figures["validation_loss"] < best_loss:
            best_loss, best = figures["validation_loss"], copy.deepcopy(averaged.module.state_dict())
        report({"loss": float(np.mean(losses)), **figures})  # before the checkpoint: an epoch without one is reported again
        if accelerator.is_main_process:
            save_checkpoint(
                checkpoints,
                epoch,
                {
                    "batch": batch,
                    "network": network.state_dict(),
                    "averaged": averaged.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
                    "generator": generator.get_state(),
                    "best_loss": best_loss,
                    "best": best,
                },
            )
    network.load_state_dict(best)
    accelerator.free_memory()
    return network.cpu().eval()


def share_loss(
    network: torch.nn.Module,
    lesson: Lesson,
    chosen: NDArray[np.int64],
    config: MembersConfig,
    accelerator: Accelerator,
    generator: torch.Generator,
) -> Tensor:
    """Return this process's part of the loss of one batch.

    Gradients of several processes are averaged, and a weighted mean over the batch is not the average of the parts' weighted means:
    each part is therefore divided by the weight of the whole batch, and multiplied by the number of processes.

    Parameters
    ----------
    chosen
        int (B,): the samples of the whole batch.
    generator
        In the same state in every process.

    Returns
    -------
    float32 (), whose mean over the processes is the loss of the whole batch.
    """
    parts = np.array_split(np.arange(len(chosen)), accelerator.num_processes)
    part = parts[accelerator.process_index]
    own = slice(int(part[0]), int(part[-1]) + 1) if len(part) else slice(0, 0)
    crops = augment(lesson.context, lesson.samples.films[chosen], config, lesson.member, generator, own).to(accelerator.device)
    targets = torch.from_numpy(lesson.samples.brands[chosen])
    weights = lesson.class_weights
    with accelerator.autocast():
        total = functional.cross_entropy(
            network(crops),
            targets[own].to(accelerator.device),
            weights.to(accelerator.device),
            reduction="sum",
            label_smoothing=config.label_smoothing,
        )
    loss: Tensor = total / weights[targets].sum().item() * accelerator.num_processes
    return loss


def validate(network: torch.nn.Module, lesson: Lesson, accelerator: Accelerator) -> dict[str, float]:
    """Return validation loss and accuracy; every process looks at its part of the crops."""
    from accelerate.utils import gather_object

    part = np.array_split(np.arange(len(lesson.targets)), accelerator.num_processes)[accelerator.process_index]
    answers = [classify_crops(network, lesson.crops[part]).numpy()] if len(part) else []
    probabilities = torch.from_numpy(np.concatenate(gather_object(answers)))
    loss = functional.nll_loss(probabilities.clamp(min=1e-12).log(), lesson.targets)
    return {
        "validation_loss": float(loss),
        "validation_accuracy": float((probabilities.argmax(dim=1) == lesson.targets).float().mean()),
    }


def probe_linear(network: Classifier, lesson: Lesson, config: MembersConfig, generator: torch.Generator) -> None:
    """Fit the linear layer by logistic regression on the frozen features of `PROBE_DRAWS` augmented draws of every sample."""
    from sklearn.linear_model import LogisticRegression

    network.eval()
    device = next(network.parameters()).device
    features = []
    with torch.inference_mode():
        for _ in range(PROBE_DRAWS):
            for films in np.array_split(lesson.samples.films, -(-len(lesson.samples.films) // config.batch)):
                crops = augment(lesson.context, films, config, lesson.member, generator).to(device)
                features.append(network.network.forward_head(network.features(crops), pre_logits=True).cpu().numpy())
    model = LogisticRegression(C=PROBE_STRENGTH, class_weight="balanced", max_iter=2000)
    model.fit(np.concatenate(features), np.tile(lesson.samples.brands, PROBE_DRAWS))
    layer = network.network.get_classifier()
    with torch.no_grad():
        for parameter, fitted in zip((layer.weight, layer.bias), softmax_coefficients(model), strict=True):
            parameter.copy_(torch.from_numpy(fitted))


def freeze_stages(network: Classifier, stages: int) -> None:
    """Keep the stem and the first `stages` of a network as they are; 0 keeps nothing, not even the stem."""
    if stages:
        for part in (network.network.conv_stem, network.network.bn1, network.network.blocks[:stages]):
            part.requires_grad_(False)


def freeze_batch_norm(network: Classifier) -> None:
    """Let BatchNorm use the statistics it has, also while training."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
