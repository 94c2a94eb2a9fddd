"""What the contracts check (see `edgekit.testing`)."""

from __future__ import annotations

import copy
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch

from edgekit.bundle import export_bundle
from edgekit.canvases import graph_inputs
from edgekit.contract import output_rows
from edgekit.errors import InputError, MissingError
from edgekit.graphs.places import STAGES
from edgekit.manifest import open_bundle
from edgekit.models.runfolder import load_pipeline
from edgekit.quantization.foresight import CalibrationPatients
from edgekit.sessions.about import About
from edgekit.sessions.torch import TorchSession
from edgekit.targets import PRECISIONS, read_target
from edgekit.testing.tiny import add_studies, draw_patients, make_front_run, make_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.backends import Backend
    from edgekit.models.pipeline import Pipeline
    from edgekit.sessions import SessionModule
    from edgekit.types import Artifact, Bundle, Session, Target, Tensors

ENSEMBLE = "ap+lateral"


class Contract:
    """What the contracts are tried on.

    Attributes
    ----------
    name
        What a recipe calls the backend.
    backend
        Its module.
    settings
        The recipe's keys of its own (`edgekit.backends.Backend.SETTINGS`).
    """

    name: ClassVar[str]
    backend: ClassVar[Backend]
    settings: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Make a run with random weights, and studies of noise."""

        def make(folder: Path) -> None:
            add_studies(make_run(folder / "run"))

        return _keep(tmp_path_factory, "run", make) / "run"

    @classmethod
    def choose_target(cls, folder: Path, precision: str, sessions: Sequence[str]) -> Target:
        """Write the recipe of a target that has this one variant, and read it as any other."""
        stages = {stage: _nearest(precision, cls.backend.PRECISIONS[stage]) for stage in STAGES}
        calibrated, numerical = "w8a8" in stages.values(), set(stages.values()) == {"fp32"}
        lines = [
            f"backend = {json.dumps(cls.name)}",
            'ensemble = "best"',
            f"sessions = {json.dumps(list(sessions))}",
            *(f"{key} = {json.dumps(value)}" for key, value in cls.settings.items()),
            f"[variants.{precision}]",
            f"stages = {{ {', '.join(f'{stage} = {json.dumps(each)}' for stage, each in stages.items())} }}",
            'judge = { basis = "numerical" }' if numerical else 'judge = { basis = "statistical", margin = 0.5, agreement = 0.5 }',
            *(['calibration = { method = "minmax", patients = 4, changed = 0.99 }'] if calibrated else []),
        ]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return read_target(folder, precision, backends={cls.name: cls.backend})

    @pytest.fixture(scope="class")
    @classmethod
    def front_run(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Make a run of another task: one view, whole films, one member."""

        def make(folder: Path) -> None:
            make_front_run(folder / "run")

        return _keep(tmp_path_factory, "front", make) / "run"

    @classmethod
    def list_precisions(cls) -> list[str]:
        """Return the precisions that it makes of detector and members, the widest first."""
        return [each for each in PRECISIONS if all(each in cls.backend.PRECISIONS[stage] for stage in ("detector", "members"))]

    @classmethod
    def export(cls, run: Path, factory: pytest.TempPathFactory, precision: str, sessions: Sequence[str]) -> Bundle:
        """Export a run once for all the tests that ask for the same; where a package is missing, skip."""

        def make(folder: Path) -> None:
            target = cls.choose_target(folder / "contract", precision, sessions)
            export_bundle(run, target, folder / "bundle", force=True, backend=cls.backend)

        with _skipping():
            return open_bundle(_keep(factory, "-".join((cls.name, run.parent.name, precision, *sessions)), make) / "bundle")


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What a backend made.

    Attributes
    ----------
    folder
        Where it wrote.
    artifact
        What it says of it.
    before
        The pipeline's tensors before it converted.
    """

    folder: Path
    artifact: Artifact
    before: dict[str, torch.Tensor]


class BackendContract(Contract):
    """What `edgekit.backends.Backend` promises."""

    @pytest.fixture(scope="class")
    @classmethod
    def pipeline(cls, run: Path) -> Pipeline:
        """Load the run's pipeline."""
        return load_pipeline(run, ENSEMBLE)

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls, tmp_path_factory: pytest.TempPathFactory) -> Target:
        """Ask for the widest precision that it makes."""
        return cls.choose_target(
            tmp_path_factory.mktemp("recipe") / "contract", cls.list_precisions()[0], [next(iter(cls.backend.SESSIONS))]
        )

    @pytest.fixture(scope="class")
    @classmethod
    def made(cls, pipeline: Pipeline, target: Target, tmp_path_factory: pytest.TempPathFactory) -> Made:
        """Convert the pipeline."""
        folder, before = tmp_path_factory.mktemp("made"), copy.deepcopy(pipeline.state_dict())
        with _skipping():
            return Made(folder, cls.backend.convert(pipeline, target, folder, CalibrationPatients()), before)

    def test_it_declares_what_it_makes_and_needs(self) -> None:
        """Every declaration has its type, and nothing is left out."""
        backend = self.backend
        assert all(isinstance(kind, type) for kind in backend.SETTINGS.values())
        assert all(values and all(isinstance(value, str) for value in values) for values in backend.OPTIONS.values())
        assert set(backend.PRECISIONS) == set(STAGES)
        assert all(made and set(made) <= set(PRECISIONS) for made in backend.PRECISIONS.values())
        assert self.list_precisions(), "it makes no precision of both detector and members"
        assert isinstance(backend.EMULATED, bool)
        assert set(backend.IN_HALVES) <= {precision for made in backend.PRECISIONS.values() for precision in made}
        default = next(iter(backend.SESSIONS.values()))
        assert default.ABOUT.runner_imports or not backend.EMULATED, "its first session does not say what a runner imports"
        assert all(isinstance(extra, str) for extra in backend.EXTRAS)
        assert backend.SESSIONS, "nothing opens its files"
        assert all(isinstance(module.ABOUT, About) and callable(module.open_session) for module in backend.SESSIONS.values())

    def test_what_this_machine_lacks_is_in_words(self) -> None:
        """`edgekit doctor` shows it."""
        assert all(isinstance(each, str) and each for each in self.backend.list_missing())

    def test_the_packages_that_decide_are_installed_ones(self, made: Made) -> None:  # noqa: ARG002  (else they need not be)
        """A manifest keeps their versions."""
        assert all(version(package) for package in self.backend.VERSIONED)

    def test_it_writes_the_files_that_it_lists_and_no_others(self, made: Made) -> None:
        """A bundle's hashes are of the files listed."""
        folder, artifact = made.folder, made.artifact
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert files == set(artifact.files)
        assert len(artifact.files) == len(files)
        assert (folder / artifact.model).exists()
        assert all((folder / name).stat().st_size for name in files)
        assert all(isinstance(sentence, str) and sentence for sentence in artifact.unproven)

    def test_what_it_describes_is_json(self, made: Made) -> None:
        """A manifest holds it."""
        folder, artifact = made.folder, made.artifact
        assert json.loads(json.dumps(self.backend.describe(folder / artifact.model), allow_nan=False))

    def test_the_pipeline_is_left_as_it_was(self, pipeline: Pipeline, made: Made) -> None:
        """The same pipeline judges what was made of it."""
        after = pipeline.state_dict()
        assert made.before.keys() == after.keys()
        assert all(torch.equal(made.before[name], after[name]) for name in after)
        assert not any(module.training for module in pipeline.modules())

    def test_a_precision_that_it_does_not_make_is_refused(self, pipeline: Pipeline, target: Target, tmp_path: Path) -> None:
        """By an error that names it, before anything is written; never another precision in its place."""
        (tmp_path / "refused").mkdir()
        for stage in STAGES:
            for precision in set(PRECISIONS) - set(self.backend.PRECISIONS[stage]):
                asked = replace(target, stages={**target.stages, stage: precision})
                with pytest.raises(InputError, match=precision):
                    self.backend.convert(pipeline, asked, tmp_path / "refused", CalibrationPatients())
        assert not list((tmp_path / "refused").iterdir())

    def test_export_takes_the_module(self, run: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Without a line for it in this package: it is converted, judged and sealed, and its bundle names who opens it."""
        precision = self.list_precisions()[0]
        bundle = self.export(run, tmp_path_factory, precision, [next(iter(self.backend.SESSIONS))])
        assert bundle.model.exists()
        opening = [name for name, module in self.backend.SESSIONS.items() if module.ABOUT.opens({"detector": precision})]
        assert list(bundle.sessions) == opening

    def test_another_task_is_no_other_backend(self, front_run: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        """One view, whole films, and members of other names: nothing of the study's task is built in."""
        session = next(iter(self.backend.SESSIONS))
        bundle = self.export(front_run, tmp_path_factory, self.list_precisions()[0], [session])
        patient = graph_inputs({"front": draw_patients(bundle.canvas_side)[0]["ap"][0, 0]}, bundle.views, bundle.canvas_side)
        with _skipping():
            opened = self.backend.SESSIONS[session].open_session(bundle, 1)
        with opened, TorchSession(load_pipeline(front_run)) as reference:
            answer, wanted = opened.infer(patient), reference.infer(patient)
        assert {name: tensor.shape for name, tensor in answer.items()} == {name: tensor.shape for name, tensor in wanted.items()}
        assert answer["decision"] == wanted["decision"]


class SessionContract(Contract):
    """What `edgekit.sessions.SessionModule` promises.

    Attributes
    ----------
    session
        Its name in the backend's ``SESSIONS``.
    tolerance
        Largest difference from the reference accepted, by output, where the file is in float32.
    """

    session: ClassVar[str]
    tolerance: ClassVar[Mapping[str, float]] = {row.name: row.tolerance or 0.0 for row in output_rows()} | {"members": 2e-3}
    """Random members are steeper than trained ones: what is left of rounding shows in them first."""

    @classmethod
    def module(cls) -> SessionModule:
        """Return the module under test."""
        return cls.backend.SESSIONS[cls.session]

    @classmethod
    def choose_precision(cls) -> str:
        """Return the widest precision of a file that it is for."""
        return next(each for each in cls.list_precisions() if cls.module().ABOUT.opens({"detector": each}))

    @pytest.fixture(scope="class")
    @classmethod
    def bundle(cls, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
        """Make what the session opens."""
        return cls.export(run, tmp_path_factory, cls.choose_precision(), [next(iter(cls.backend.SESSIONS))])

    @pytest.fixture
    def opened(self, bundle: Bundle) -> Session:
        """Open the session in one thread; the test leaves it."""
        with _skipping():
            return self.module().open_session(bundle, 1)

    def test_it_says_what_it_is(self) -> None:
        """Every declaration has its type."""
        about = self.module().ABOUT
        assert isinstance(about, About)
        assert all(isinstance(flag, bool) for flag in (about.takes_threads, about.interprets, about.by_processor, about.in_process))
        assert all(isinstance(text, str) and text for text in (*about.extras, *about.notes, *about.only_for))
        assert set(about.only_for) <= set(PRECISIONS)
        assert about.stands_in_for is None or about.stands_in_for
        assert about.baseline_of is None or about.baseline_of in self.backend.SESSIONS
        assert all(isinstance(each, str) and each for each in about.list_missing())

    def test_where_something_is_missing_it_says_so(self, bundle: Bundle) -> None:
        """By an error with a remedy, never by a quieter runtime in its place."""
        if not self.module().ABOUT.list_missing():
            pytest.skip("this machine lacks nothing that the session needs, beside packages")
        with pytest.raises(MissingError) as caught:
            self.module().open_session(bundle)
        assert caught.value.message
        assert caught.value.remedy

    def test_it_is_a_context_manager_with_a_name_and_a_runtime(self, opened: Session) -> None:
        """Reports name both."""
        with opened as entered:
            assert entered is opened
            assert opened.name == self.session
            assert isinstance(opened.runtime, str)
            assert opened.runtime

    def test_it_answers_as_the_reference_does(self, run: Path, bundle: Bundle, opened: Session) -> None:
        """All outputs, with their names, types and shapes; in float32 also with their values."""
        patients = draw_patients(bundle.canvas_side)
        with opened, TorchSession(load_pipeline(run, ENSEMBLE)) as reference:
            found = [opened.infer(inputs) for inputs in patients]  # all first: an answer must not change with the next
            expected = [reference.infer(inputs) for inputs in patients]
        for answer, wanted in zip(found, expected, strict=True):
            assert list(answer) == list(wanted)
            for name, tensor in wanted.items():
                assert (answer[name].dtype, answer[name].shape) == (tensor.dtype, tensor.shape), name
                assert np.isfinite(answer[name]).all(), name
                if self.choose_precision() == "fp32":
                    assert _differ(answer[name], tensor) <= self.tolerance[name], name

    def test_the_same_films_get_the_same_answer(self, bundle: Bundle, opened: Session) -> None:
        """Whatever was asked in between; and the inputs stay as they were."""
        first, second, _ = draw_patients(bundle.canvas_side)
        kept = copy.deepcopy(first)
        for tensor in first.values():
            tensor.setflags(write=False)
        with opened:
            before = copy.deepcopy(opened.infer(first))
            opened.infer(second)
            after = opened.infer(first)
        assert all(np.array_equal(kept[name], first[name]) for name in kept)
        for name in before:
            assert _differ(after[name], before[name]) <= 1e-6, name

    def test_other_inputs_are_refused(self, bundle: Bundle, opened: Session) -> None:
        """A tensor that is missing, unknown, or of another type or shape."""
        inputs = draw_patients(bundle.canvas_side)[0]
        film = next(name for name, tensor in inputs.items() if tensor.dtype == np.uint8)
        wrong: list[Tensors] = [
            {name: tensor for name, tensor in inputs.items() if name != film},
            {**inputs, "another": inputs[film]},
            {**inputs, film: inputs[film].astype(np.float32)},
            {**inputs, film: inputs[film][..., :-1]},
        ]
        with opened:
            for each in wrong:
                with pytest.raises(InputError):
                    opened.infer(each)
            opened.infer(inputs)  # it still answers

    def test_it_takes_no_more_threads_than_it_is_given(self, bundle: Bundle) -> None:
        """One thread computes no longer than the clock runs; two give the same answer."""
        if not self.module().ABOUT.takes_threads:
            pytest.skip(f"the threads of {self.session} can't be chosen, and it says so")
        inputs = draw_patients(bundle.canvas_side)[0]
        answers = []
        for threads in (1, 2):
            with _skipping():
                session = self.module().open_session(bundle, threads)
            with session:
                session.infer(inputs)
                computed, passed = time.process_time(), time.perf_counter()
                answers += [session.infer(inputs) for _ in range(20)][:1]
                computed, passed = time.process_time() - computed, time.perf_counter() - passed
                assert computed <= 1.5 * threads * passed, f"{threads} threads computed {computed:.2f} s in {passed:.2f} s"
        for name, tensor in answers[0].items():
            assert _differ(answers[1][name], tensor) <= self.tolerance[name], name


def _nearest(precision: str, made: tuple[str, ...]) -> str:
    """Return the precision, or for a stage that is not made in it the first that is."""
    return precision if precision in made else made[0]


def _keep(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that is made once in a session of pytest."""
    folder = factory.getbasetemp() / "contracts" / name
    if not folder.exists():
        partial = factory.mktemp("contract") / name
        partial.mkdir()
        make(partial)
        folder.parent.mkdir(exist_ok=True)
        partial.rename(folder)
    return folder


def _differ(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest difference of two arrays; infinite where one is not a number."""
    return float(np.nan_to_num(np.abs(found.astype(np.float64) - expected.astype(np.float64)), nan=np.inf).max(initial=0.0))


@contextmanager
def _skipping() -> Iterator[None]:
    """Skip the test where something is missing here; the reason says what would run it."""
    try:
        yield
    except MissingError as error:
        pytest.skip(f"{error.message}; {error.remedy}")
