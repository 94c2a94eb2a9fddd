"""A task as data: what is looked for, on which views, and which members look at them.

The clinical study is one task, `PEDICLE_SCREWS`; another implant is a ``[task]`` table in the settings of a training. A run keeps its
task in ``pipeline.json``, a bundle in ``manifest.json``.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from edgekit.contract import OUTPUTS, PRESENT
from edgekit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection

View = str
"""Name of a view, one of its task's."""
Layout = Literal["single", "side by side", "each"]

SINGLE, SIDE_BY_SIDE, EACH = get_args(Layout)
MOST_VIEWS = 3
INTENDED_USE = (
    "Research software, not a medical device. Not for diagnosis and not for choosing surgical instruments. "
    "Figures come from simulated films unless stated otherwise."
)
_VIEW = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
"""A view's name is that of a tensor, of two columns of a table and of a file."""
_MEMBER = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
"""A member's name is part of a file's name and of a node's."""
_COLUMNS = "answer", "brand", "decision", "exclude", "levels", "patient_id", "prediction_set", "row", "split", "truth", "unfamiliarity"
_TAKEN = frozenset({*_COLUMNS, *OUTPUTS, PRESENT, "both", "none", "stress"})
"""Names that mean something else beside a view: columns of the tables, tensors of the graph, cases of its golden vectors."""
_TAKEN_STARTS, _TAKEN_ENDS = ("has_", "p_"), ("_box", "_score")


@dataclass(frozen=True, slots=True)
class Member:
    """One classifier of a task.

    Attributes
    ----------
    views
        The views that it looks at, in the task's order.
    layout
        ``single``: the crop of its one view. ``side by side``: the crops of its views in one picture, each as high as the picture; it
        needs all of them. ``each``: one film at a time, whichever are there; its answer is the mean over them.
    """

    name: str
    views: tuple[View, ...]
    layout: Layout

    def can_answer(self, given: Collection[View]) -> bool:
        """Tell whether it can be evaluated on the films `given`."""
        return any(view in given for view in self.views) if self.layout == EACH else all(view in given for view in self.views)


@dataclass(frozen=True, slots=True)
class Task:
    """What a pipeline is asked.

    Attributes
    ----------
    name, question
        For people: ``pedicle-screws``, and what is asked of a patient's films.
    found, told
        The words for what is looked for on a film (``construct``) and for what is answered (``brand``).
    views
        One to three, in the order of the graph's inputs, of ``present`` and of ``boxes``.
    locate
        Whether a detector finds what is cropped; False takes the whole film.
    covariate
        A yes/no property of a patient that figures are told apart by, column ``has_<covariate>`` of ``studies.csv``; empty: none.
    every_case
        Whether an ensemble must answer whichever of the views' films a patient has. False: where it can't, the answer is
        ``no construct found``.
    members
        In the order of the graph's ``members`` rows.
    intended_use
        The statement shown wherever an answer is.
    """

    name: str
    question: str
    found: str
    told: str
    views: tuple[View, ...]
    locate: bool
    covariate: str
    every_case: bool
    members: tuple[Member, ...]
    intended_use: str

    @property
    def cases(self) -> dict[str, tuple[int, ...]]:
        """The films that a patient may have, as places in `views`: every non-empty subset, smaller ones first.

        A case of one film is named by its view, that of both films of two ``both``, others by their views joined with ``+``.
        """
        places = range(len(self.views))
        subsets = [subset for size in range(1, len(self.views) + 1) for subset in combinations(places, size)]
        both = len(self.views) == 2
        return {"both" if both and len(some) > 1 else "+".join(self.views[place] for place in some): some for some in subsets}

    def member(self, name: str) -> Member:
        """Return a member by name."""
        return next(member for member in self.members if member.name == name)

    def place(self, view: View) -> int:
        """Return the place of a view in `views`."""
        return self.views.index(view)

    def can_answer(self, member: str, case: str) -> bool:
        """Tell whether `member` can be evaluated in `case`."""
        return self.member(member).can_answer([self.views[place] for place in self.cases[case]])

    def repetition(self, member: str) -> int:
        """Return how many members before it look at the same views in the same layout: its random numbers tell it apart from them."""
        looks = [(each.views, each.layout) for each in self.members]
        place = [each.name for each in self.members].index(member)
        return looks[:place].count(looks[place])

    def looking_alone(self, view: View) -> tuple[str, ...]:
        """Return the members that look at the film of `view` by itself: those of it alone, then those of each film."""
        alone = [member.name for member in self.members if member.layout == SINGLE and member.views == (view,)]
        return (*alone, *(member.name for member in self.members if member.layout == EACH and view in member.views))

    def missing_views(self, case: str) -> tuple[View, ...]:
        """Return the views that a case has no film of."""
        given = self.cases[case]
        return tuple(view for place, view in enumerate(self.views) if place not in given)

    def to_json(self) -> dict[str, Any]:
        """Return a document (and a TOML table) that `parse_task` reads back."""
        members = {member.name: {"views": list(member.views), "layout": member.layout} for member in self.members}
        return {**asdict(self), "views": list(self.views), "members": members}


def parse_task(document: Any, where: str) -> Task:
    """Read a ``[task]`` table or what `Task.to_json` wrote; only `views` and `name` have no default.

    Without ``members``, one looks at each view alone.

    Raises
    ------
    InputError
        A key is unknown or missing, or a value impossible; the message names `where` and the key.
    """
    if not isinstance(document, dict):
        raise InputError(f"{where}: expected a table, got {document!r}")
    accepted = tuple(Task.__dataclass_fields__)
    if unknown := sorted(set(document) - set(accepted)):
        raise InputError(f"{where}: unknown key {', '.join(unknown)}", f"accepted: {', '.join(accepted)}")
    if missing := [key for key in ("name", "views") if key not in document]:
        raise InputError(f"{where}: {', '.join(missing)} missing", 'for example: name = "hips", views = ["ap"]')
    told = _take(document, "told", str, where, "brand")
    views = _take_names(document, "views", where)
    _check_views(views, where)
    members = document.get("members", {view: {"views": [view], "layout": SINGLE} for view in views})
    if not isinstance(members, dict) or not members:
        raise InputError(f"{where}: members = {members!r} is not a table of members")
    task = Task(
        name=_take(document, "name", str, where),
        question=_take(document, "question", str, where, f"Which {told} is this?"),
        found=_take(document, "found", str, where, "implant"),
        told=told,
        views=views,
        locate=_take(document, "locate", bool, where, True),
        covariate=_take(document, "covariate", str, where, ""),
        every_case=_take(document, "every_case", bool, where, True),
        members=tuple(_parse_member(name, table, views, f"{where} [members.{name}]") for name, table in members.items()),
        intended_use=_take(document, "intended_use", str, where, INTENDED_USE),
    )
    _check_task(task, where)
    return task


def _parse_member(name: str, table: Any, views: tuple[View, ...], where: str) -> Member:
    if not isinstance(table, dict) or set(table) != {"views", "layout"}:
        raise InputError(f"{where}: expected views and layout, got {table!r}")
    layout, seen = _take(table, "layout", str, where), _take_names(table, "views", where)
    if not _MEMBER.fullmatch(name):
        raise InputError(f"{where}: a member's name is made of lower-case letters, digits, - and _")
    if name in ("all", "best"):
        raise InputError(f"{where}: {name!r} is the name of an ensemble", "give the member another name")
    if layout not in get_args(Layout):
        raise InputError(f"{where}: layout = {layout!r}", f"choose one of {', '.join(get_args(Layout))}")
    if set(seen) - set(views) or list(seen) != [view for view in views if view in seen]:
        raise InputError(f"{where}: views = {list(seen)}", f"choose of the task's views, in their order: {', '.join(views)}")
    if (layout == SINGLE) != (len(seen) == 1):
        raise InputError(f"{where}: layout {layout!r} with {len(seen)} views", f"{SINGLE} looks at one view, the others at two or more")
    return Member(name, seen, cast("Layout", layout))


def _check_views(views: tuple[View, ...], where: str) -> None:
    if len(views) > MOST_VIEWS or len(set(views)) < len(views):
        raise InputError(f"{where}: views = {list(views)}", f"give one to {MOST_VIEWS} different views")
    for view in views:
        if not _VIEW.fullmatch(view) or view in _TAKEN or view.startswith(_TAKEN_STARTS) or view.endswith(_TAKEN_ENDS):
            raise InputError(f"{where}: {view!r} can't be a view's name", "take lower-case letters, digits and _, such as ap or lateral")


def _check_task(task: Task, where: str) -> None:
    names = {member.name for member in task.members}
    answers = {f"{member.name}_{film}" for member in task.members if member.layout == EACH for film in (*member.views, "dual", "mean")}
    if taken := names & answers:
        raise InputError(
            f"{where}: a member can't be called {', '.join(sorted(taken))}, as what another says of one film is", "give it another name"
        )
    if task.covariate and not _VIEW.fullmatch(task.covariate):
        raise InputError(f"{where}: covariate = {task.covariate!r}", "take lower-case letters, digits and _, or leave it empty")
    if empty := [key for key in ("name", "question", "found", "told", "intended_use") if not getattr(task, key).strip()]:
        raise InputError(f"{where}: {', '.join(empty)} must not be empty")


def _take(table: dict[str, Any], key: str, kind: type, where: str, default: Any = None) -> Any:
    value = table.get(key, default)
    if type(value) is not kind:
        raise InputError(f"{where}: {key} = {value!r} is not {kind.__name__}")
    return value


def _take_names(table: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = table.get(key)
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) for name in value):
        raise InputError(f"{where}: {key} = {value!r} is not a list of names")
    return tuple(value)


PEDICLE_SCREWS = Task(
    name="pedicle-screws",
    question="Which brand of pedicle screws is this?",
    found="construct",
    told="brand",
    views=("ap", "lateral"),
    locate=True,
    covariate="crosslink",
    every_case=True,
    members=(
        Member("ap", ("ap",), "single"),
        Member("lateral", ("lateral",), "single"),
        Member("concat", ("ap", "lateral"), "side by side"),
        Member("merge", ("ap", "lateral"), "each"),
    ),
    intended_use=INTENDED_USE,
)
"""The clinical study: brands of pedicle screws on AP and lateral spine radiographs. What simulated films show."""
