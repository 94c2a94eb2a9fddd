"""Which models a run is asked as: which films each sees, its heading, and whether it answers once a film."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgekit.errors import InputError
from edgekit.task import EACH, PEDICLE_SCREWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgekit.models.ensemble import Ensemble
    from edgekit.task import Member, Task, View

__all__ = ["Headings", "Model", "choose_headings", "list_models", "name_mean", "name_model", "name_of_view", "name_pooled", "spell"]

PAPER = ("all", "ap+lateral", "ap+lateral+concat", "ap+lateral+merge", "lateral+concat")
"""The ensembles of the paper's Table 3, in its order: those that tables show of the study."""
MOST_ENSEMBLES = 6
"""How many ensembles tables show of another task."""
ABBREVIATION = 2
"""A word of at most so many letters is an abbreviation: AP."""


@dataclass(frozen=True, slots=True)
class Model:
    """A member, one of the ways in which a member answers, or an ensemble.

    Attributes
    ----------
    name
        Key of ``metrics.json`` and part of a file's name.
    heading
        Of its column.
    views
        The films that it sees, in the task's order.
    kind
        ``member``; of a member that looks at each film: ``pooled``, an answer for each film, and ``mean``, their mean; ``ensemble``;
        ``calibrated``, an ensemble of one member.
    """

    name: str
    heading: str
    views: tuple[View, ...]
    kind: Literal["member", "pooled", "mean", "ensemble", "calibrated"]

    @property
    def is_per_film(self) -> bool:
        """Whether it answers once a film, not once a patient: it is in no comparison of patients."""
        return self.kind == "pooled"


@dataclass(frozen=True, slots=True)
class Headings:
    """The models that tables show, in their order.

    Attributes
    ----------
    singles, ensembles
        Name to heading: the columns of the tables of single models and of ensembles.
    pooled
        The films that single models which answer film by film see, by name.
    members
        Names of all that is no ensemble: the single models, and the means over a patient's films.
    """

    singles: Mapping[str, str]
    ensembles: Mapping[str, str]
    pooled: Mapping[str, tuple[View, ...]]
    members: tuple[str, ...]


def list_models(task: Task, members: Iterable[str], ensembles: Iterable[Ensemble]) -> dict[str, Model]:
    """List what a run is asked as, in the order of ``metrics.json``: the members, then the ensembles.

    A member that looks at each film answers as ``<member>_<view>`` for the film of one view, as ``<member>_dual`` for every film of a
    patient and as ``<member>_mean`` with the mean over them. The others answer under their name.

    Parameters
    ----------
    members
        Names of the trained ones.
    ensembles
        The run's.

    Raises
    ------
    InputError
        Two models have one name.
    """
    models = [model for name in members for model in _list_answers(task.member(name))]
    models += [_describe_ensemble(task, ensemble) for ensemble in ensembles]
    listed: dict[str, Model] = {}
    for model in models:
        if model.name in listed:
            raise InputError(
                f"two models of the run are called {model.name}", "give a member another name in [task.members] and train again"
            )
        listed[model.name] = model
    return listed


def choose_headings(task: Task, models: Mapping[str, Model], chosen: str = "") -> Headings:
    """Choose what tables show: of the study the paper's columns, of another task `MOST_ENSEMBLES`, `chosen` among them."""
    members = [model for model in models.values() if model.kind in ("member", "pooled", "mean")]
    if task.name == PEDICLE_SCREWS.name:
        ensembles = {name: _join_members(name) for name in PAPER}
    else:
        combined = [model for model in models.values() if model.kind == "ensemble"]
        first = sorted(combined, key=lambda model: model.name != chosen)[:MOST_ENSEMBLES]
        ensembles = {model.name: model.heading for model in combined if model in first}
    singles = {model.name: model.heading for model in members if model.kind != "mean"}
    pooled = {model.name: model.views for model in members if model.is_per_film}
    return Headings(singles, ensembles, pooled, tuple(model.name for model in members))


def name_model(ensemble: Ensemble) -> str:
    """Name an ensemble among the models: an ensemble of one member, which is that member calibrated, is not the member."""
    return f"{ensemble.name}-calibrated" if len(ensemble.members) == 1 else ensemble.name


def name_of_view(member: Member, view: View) -> str:
    """Name what a member that looks at each film says about the film of `view`."""
    return f"{member.name}_{view}"


def name_pooled(member: Member) -> str:
    """Name what a member that looks at each film says about all of them, film by film."""
    return f"{member.name}_dual"


def name_mean(member: Member) -> str:
    """Name the mean over what a member that looks at each film says about them."""
    return f"{member.name}_mean"


def spell(name: str) -> str:
    """Spell the name of a view or a member within a sentence: ``lateral``, ``AP``, ``left oblique``."""
    words = name.replace("-", " ").replace("_", " ").split(" ")
    return " ".join(word.upper() if len(word) <= ABBREVIATION else word for word in words)


def _list_answers(member: Member) -> list[Model]:
    name = _begin(spell(member.name))
    if member.layout != EACH:
        return [Model(member.name, name, member.views, "member")]
    every = "dual" if len(member.views) == 2 else "all"
    return [
        *(Model(name_of_view(member, view), f"{name} on {spell(view)} images", (view,), "member") for view in member.views),
        Model(name_pooled(member), f"{name} on {every} images", member.views, "pooled"),
        Model(name_mean(member), f"{name}, mean", member.views, "mean"),
    ]


def _describe_ensemble(task: Task, ensemble: Ensemble) -> Model:
    seen = {view for member in ensemble.members for view in task.member(member).views}
    views = tuple(view for view in task.views if view in seen)
    if len(ensemble.members) == 1:
        return Model(name_model(ensemble), f"{_join_members(ensemble.name)}, calibrated", views, "calibrated")
    return Model(name_model(ensemble), _join_members(ensemble.name), views, "ensemble")


def _join_members(ensemble: str) -> str:
    return " + ".join(_begin(spell(member)) for member in ensemble.split("+"))


def _begin(words: str) -> str:
    """Write the first letter large."""
    return words[:1].upper() + words[1:]
