"""Training settings: a preset, overridden by the user's TOML. The resolved settings are kept as ``RUN/config.toml``."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from typing import TYPE_CHECKING, Any, get_type_hints

from edgekit.errors import InputError, UsageError
from edgekit.task import PEDICLE_SCREWS, SIDE_BY_SIDE, Task, parse_task

if TYPE_CHECKING:
    from pathlib import Path

PRESETS = ("demo", "paper")


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """How the detector is trained.

    Attributes
    ----------
    side
        Side of its square input in pixels, a multiple of 32 that divides the canvas side.
    backbone
        ``efficientnet_lite0`` (starts from ImageNet weights, its first stages frozen) or ``yolov5n`` (starts at random).
    activation
        Of neck, head and YOLOv5n's own backbone: ``relu`` or ``silu``.
    film_passes
        Length of the training: films times epochs, so that it takes about as long whatever the number of films.
    early_scale, early_share
        The first share of the film passes sees films made smaller by this factor, to a multiple of 32 pixels: that is faster, and much is
        learnt there.
    learning_rate
        Peak of AdamW's cosine schedule.
    rotation_degrees, translate, scale
        Ranges of ultralytics' augmentation: +/- degrees, +/- share of the side, +/- gain. The box of a turned film is that of its turned
        corners, and so larger than what it holds.
    part_share
        Share of the films of which training shows a part as a film of its own.
    photo_share
        Share of the training films that are shown as photographed off a screen.
    view_margin
        A film is in the wrong slot when another view's score exceeds its own by more than this.
    most_false_plain, most_false_other
        Share of the validation films without a construct on which something may be found: of patients without any metal, and of those
        with other metal (`edgekit.training.localisation.choose_threshold`).
    default_threshold
        Score from which a film counts as found, where validation holds no film without a construct to fit it on.
    """

    side: int
    backbone: str
    activation: str
    film_passes: int
    early_scale: float
    early_share: float
    batch: int
    learning_rate: float
    rotation_degrees: float
    translate: float
    scale: float
    part_share: float
    photo_share: float
    view_margin: float
    most_false_plain: float
    most_false_other: float
    default_threshold: float


@dataclass(frozen=True, slots=True)
class MembersConfig:
    """How the members are trained.

    Attributes
    ----------
    names
        Members to train, of the task's.
    architecture
        ``efficientnet_lite0`` or ``efficientnet_b0``.
    init
        ``imagenet`` or ``random``.
    side
        Side of the square crop in pixels.
    margin
        Share of a box's side that is added on each side before cropping; a whole film gets none.
    black
        Gray level, 0 to 254, up to which what surrounds a whole film is none of it.
    frozen_stages
        Stages that keep ImageNet's weights, from the first on, and the stem with them; 0 keeps nothing.
    averaging
        Share of the running average of the weights that a step keeps, from 0, which is the last weights, to below 1.
    batch
        Samples a step, shared by the processes where there are several.
    cuda_batch
        On one CUDA device instead: where the search for the largest batch that fits begins.
    learning_rate
        Peak of the one-cycle schedule.
    box_jitter
        +/- share of the box's side by which each edge moves.
    contrast
        +/- gain of contrast and brightness.
    gamma
        +/- natural logarithm of the exponent of the grey values.
    blur
        Share of the draws at up to half the resolution.
    noise
        Largest standard deviation of added noise, as a share of the grey range.
    photo_share
        Share of the draws that show the film as photographed off a screen.
    """

    names: tuple[str, ...]
    architecture: str
    init: str
    side: int
    margin: float
    black: int
    frozen_stages: int
    averaging: float
    epochs: int
    batch: int
    cuda_batch: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float
    rotation_degrees: float
    box_jitter: float
    contrast: float
    gamma: float
    blur: float
    noise: float
    photo_share: float


@dataclass(frozen=True, slots=True)
class CornersConfig:
    """How the network is trained that finds a film in a photo of a screen.

    Attributes
    ----------
    photos
        Simulated photos to learn from; 0 trains none, and the phone app then suggests no corners.
    learning_rate
        Peak of AdamW's cosine schedule.
    """

    photos: int
    epochs: int
    batch: int
    learning_rate: float


@dataclass(frozen=True, slots=True)
class EnsemblesConfig:
    """How the ensembles are fitted.

    Attributes
    ----------
    coverage
        Nominal coverage of the prediction set.
    familiar
        Share of the validation patients that must count as familiar.
    folds
        Cross-validation folds on the validation patients.
    """

    coverage: float
    familiar: float
    folds: int


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """All settings of one training run.

    Attributes
    ----------
    task
        What the pipeline is asked: the study's `edgekit.task.PEDICLE_SCREWS` unless the user's file has a ``[task]``, which is taken whole.
    canvas_side
        Side of the square canvas in pixels, a property of the run.
    device
        ``auto``, or what torch calls it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    tensorboard
        Whether the figures of ``history.csv`` are written for TensorBoard too.
    """

    seed: int
    device: str
    canvas_side: int
    tensorboard: bool
    task: Task
    detector: DetectorConfig
    members: MembersConfig
    corners: CornersConfig
    ensembles: EnsemblesConfig

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a document."""
        return {**asdict(self), "task": self.task.to_json()}

    def to_toml(self) -> str:
        """Return the settings as TOML text."""
        import tomli_w

        return tomli_w.dumps(self.to_json())

    @property
    def crop_margin(self) -> float:
        """Share of a box's side that is added on each side before cropping."""
        return self.members.margin if self.task.locate else 0.0


def load_config(preset: str, override: Path | None = None) -> TrainingConfig:
    """Read a preset and lay the user's file over it.

    Raises
    ------
    UsageError
        The preset is unknown.
    InputError
        The file is not TOML, or it has an unknown key, a value of the wrong type or an impossible size.
    """
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}", f"choose one of {', '.join(PRESETS)}")
    settings = tomllib.loads((files("edgekit.training") / "presets" / f"{preset}.toml").read_text(encoding="utf-8"))
    if override is not None:
        if not override.is_file():
            raise InputError(f"{override} is missing")
        try:
            changes = tomllib.loads(override.read_text(encoding="utf-8"))
        except (
            ValueError,
            RecursionError,
        ) as error:  # not TOML or UTF-8; numbers of 5,000 digits; 500 lists nested
            raise InputError(f"{override}: not TOML ({error})") from error
        for key, value in changes.items():
            both_tables = isinstance(value, dict) and isinstance(settings.get(key), dict)
            settings[key] = {**settings[key], **value} if both_tables else value
        named = changes.get("members")
        if "task" in changes and not (isinstance(named, dict) and "names" in named) and isinstance(settings["members"], dict):
            task = parse_task(changes["task"], f"{override} [task]")
            settings["members"] = {**settings["members"], "names": [member.name for member in task.members]}
    settings.setdefault("task", PEDICLE_SCREWS.to_json())
    config: TrainingConfig = build_section(TrainingConfig, settings, str(override or preset))
    check_config(config)
    return config


def build_section(section: Any, settings: Any, where: str) -> Any:
    """Build a settings dataclass from a TOML table; an unknown key or a wrong type is an error that names it."""
    if not isinstance(settings, dict):
        raise InputError(f"{where}: expected a table, got {settings!r}")
    accepted = [field.name for field in fields(section)]
    if unknown := sorted(set(settings) - set(accepted)):
        raise InputError(f"{where}: unknown key {', '.join(unknown)}", f"accepted: {', '.join(accepted)}")
    hints = get_type_hints(section)
    values: dict[str, Any] = {}
    for name in accepted:
        value, hint = settings[name], hints[name]
        if hint is Task:
            values[name] = parse_task(value, f"{where} [{name}]")
        elif hasattr(hint, "__dataclass_fields__"):
            values[name] = build_section(hint, value, f"{where} [{name}]")
        elif hint is float and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
            values[name] = float(value)  # not nan, inf or a whole number of 400 digits
        elif hint in (int, str, bool) and type(value) is hint:
            values[name] = value
        elif hint == tuple[str, ...] and isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            values[name] = tuple(value)
        else:
            raise InputError(f"{where}: {name} = {value!r} is not {getattr(hint, '__name__', hint)}")
    return section(**values)


def check_config(config: TrainingConfig) -> None:
    """Refuse impossible settings by name."""
    from torch.nn import ModuleDict

    from edgekit.models.classifier import FROZEN_AT_MOST, NORMALIZATION
    from edgekit.models.detector import ACTIVATIONS, BACKBONES
    from edgekit.training.screens import LEAST_PHOTOS

    detector, members = config.detector, config.members
    if not 0 <= config.seed < 1 << 31:
        raise InputError(f"seed {config.seed} must be from 0 to {(1 << 31) - 1}")
    choices: dict[str, tuple[str, tuple[str, ...]]] = {
        "detector backbone": (detector.backbone, BACKBONES),
        "detector activation": (detector.activation, tuple(ACTIVATIONS)),
        "members architecture": (members.architecture, tuple(NORMALIZATION)),
        "members init": (members.init, ("imagenet", "random")),
    }
    for name, (value, accepted) in choices.items():
        if value not in accepted:
            raise InputError(f"{name} = {value!r}", f"choose one of {', '.join(accepted)}")
    if detector.learning_rate > 1:
        raise InputError(f"detector learning_rate {detector.learning_rate} must be at most 1", "the preset's is 0.002")
    shares = {
        "detector early_scale": detector.early_scale,
        "detector early_share": detector.early_share,
        "detector part_share": detector.part_share,
        "detector photo_share": detector.photo_share,
        "detector most_false_plain": detector.most_false_plain,
        "detector most_false_other": detector.most_false_other,
        "detector default_threshold": detector.default_threshold,
        "members photo_share": members.photo_share,
        "members blur": members.blur,
    }
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise InputError(f"{name} {share} must be from 0 to 1")
    if not 0 <= members.label_smoothing < 1:
        raise InputError(f"members label_smoothing {members.label_smoothing} must be at least 0 and below 1")
    if detector.side < 32 or detector.side % 32 or config.canvas_side < detector.side or config.canvas_side % detector.side:
        raise InputError(
            f"detector side {detector.side} must be a multiple of 32 that divides the canvas side {config.canvas_side}",
            "for example canvas_side = 768 with side = 256",
        )
    if members.side < 32 or members.side % 32:
        raise InputError(f"members side {members.side} must be a multiple of 32", "the study's is 256")
    known = [member.name for member in config.task.members]
    if not members.names or set(members.names) - set(known):
        raise InputError(f"members names {list(members.names)}", f"choose from {', '.join(known)}")
    for member in map(config.task.member, members.names):
        if hasattr(ModuleDict(), member.name):
            raise InputError(f"a member can't be called {member.name!r}, which torch gives a meaning", "give it another name")
        if member.layout == SIDE_BY_SIDE and members.side % len(member.views):
            raise InputError(
                f"members side {members.side} can't be shared by the {len(member.views)} views of {member.name!r}",
                f"take a multiple of {32 * len(member.views)}",
            )
    positive = {
        "detector film_passes": detector.film_passes,
        "detector batch": detector.batch,
        "detector learning_rate": detector.learning_rate,
        "members epochs": members.epochs,
        "members batch": members.batch - 1,  # BatchNorm needs two
        "members cuda_batch": members.cuda_batch - 1,
        "members learning_rate": members.learning_rate,
        "corners epochs": config.corners.epochs,
        "corners batch": config.corners.batch - 1,
        "corners learning_rate": config.corners.learning_rate,
        "ensembles folds": config.ensembles.folds - 1,
    }
    if wrong := [name for name, value in positive.items() if value <= 0]:
        raise InputError(f"{', '.join(wrong)}: too small")
    if config.corners.photos != 0 and config.corners.photos < LEAST_PHOTOS:
        raise InputError(f"corners photos {config.corners.photos} must be 0 or at least {LEAST_PHOTOS}", "0 trains no corner finder")
    if min(members.gamma, members.noise) < 0:
        raise InputError(f"members gamma {members.gamma} and noise {members.noise} must be at least 0")
    if not 0 <= members.margin < 1:
        raise InputError(f"members margin {members.margin} must be at least 0 and below 1", "the study's is 0.05")
    if not 0 <= members.black < 255:
        raise InputError(f"members black {members.black} must be from 0 to 254", "the presets' is 8")
    if not 0 <= members.frozen_stages <= FROZEN_AT_MOST:
        raise InputError(f"members frozen_stages {members.frozen_stages} must be from 0 to {FROZEN_AT_MOST}", "the presets' is 0")
    if members.frozen_stages and members.init == "random":
        raise InputError(f"members frozen_stages {members.frozen_stages} would keep random weights", 'set init = "imagenet"')
    if not 0 <= members.averaging < 1:
        raise InputError(f"members averaging {members.averaging} must be at least 0 and below 1", "the presets' is 0")
    if not 0 < detector.view_margin <= 1:
        raise InputError(f"detector view_margin {detector.view_margin} must be above 0 and at most 1", "the presets' is 0.25")
    if members.weight_decay < 0:
        raise InputError(f"members weight_decay {members.weight_decay} must be at least 0")
    if not 0 <= detector.translate <= 1:
        raise InputError(f"detector translate {detector.translate} must be from 0 to 1")
    gains = {"detector scale": detector.scale, "members box_jitter": members.box_jitter, "members contrast": members.contrast}
    for name, gain in gains.items():
        if not 0 <= gain < 1:  # at 1 a film could be drawn without extent or without contrast, beyond it mirrored or inverted
            raise InputError(f"{name} {gain} must be at least 0 and below 1")
    for name, angle in {"detector": detector.rotation_degrees, "members": members.rotation_degrees}.items():
        if not 0 <= angle <= 180:
            raise InputError(f"{name} rotation_degrees {angle} must be from 0 to 180")
    for name, share in {"coverage": config.ensembles.coverage, "familiar": config.ensembles.familiar}.items():
        if not 0.5 <= share < 1:
            raise InputError(f"ensembles {name} {share} must be at least 0.5 and below 1")
