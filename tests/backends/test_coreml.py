from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pedicle_screws import INPUTS, VIEWS, describe_inputs, make_spec

import edgekit
from edgekit.backends import coreml as backend
from edgekit.contract import OUTPUTS
from edgekit.errors import GateError, InputError
from edgekit.formats.mlpackage import Blobs, read_specification
from edgekit.graphs.exporting import fold_batch_norms
from edgekit.models.runfolder import load_pipeline
from edgekit.quantization.coreml_activations import quantize_activations, write_pairs
from edgekit.quantization.foresight import CalibrationPatients
from edgekit.sessions.coreml import CoreMLSession
from edgekit.sessions.coreml_reference import CoreMLReferenceSession
from edgekit.sessions.coreml_reference.values import name_type
from edgekit.sessions.torch import TorchSession
from edgekit.task import INTENDED_USE
from edgekit.types import Calibration, Judge, Target

SIDE = 32


def make_target(precision: str, weights: str = "linear", system: str = "iOS17") -> Target:
    return Target(
        name="ios",
        precision=precision,
        folder=Path(),
        recipe=Path(),
        backend="coreml",
        ensemble="ap+lateral",
        sessions=("coreml-reference",),
        settings={"minimum_os": system},
        stages={"detector": precision, "geometry": "fp32", "members": precision, "ensemble": "fp32"},
        judge=Judge("statistical", 0.005, 0.99),
        calibration=None,
        size_mb=None,
        p50_ms=None,
        options={"weights": weights},
    )


class Finder(torch.nn.Module):
    """Where the films are bright, in canvas pixels: coordinates that float16 has in steps of a quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.network = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU())

    def forward(self, films: torch.Tensor) -> torch.Tensor:
        places = torch.linspace(600.3, 639.7, SIDE)
        weights = self.network(films).mean(dim=1).softmax(dim=2)  # (2, S, S)
        x = (weights.mean(dim=1) * places).sum(dim=1)
        return torch.stack([x - 0.1, x - 0.2, x + 0.1, x + 0.2], dim=1)

    def list_blocks(self) -> dict[str, str]:
        return {"network.0": "network.0"}


class Network(torch.nn.Module):
    """The parts that a timm EfficientNet has."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = torch.nn.Conv2d(1, 64, 3), torch.nn.ReLU()
        self.blocks = torch.nn.Sequential(torch.nn.Conv2d(64, 64, 3))
        self.conv_head, self.bn2 = torch.nn.Conv2d(64, 16, 1), torch.nn.ReLU()
        self.global_pool, self.classifier = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Linear(16, 2)

    def forward_features(self, film: torch.Tensor) -> torch.Tensor:
        return self.bn2(self.conv_head(self.blocks(self.bn1(self.conv_stem(film)))))

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.global_pool(features).flatten(1))

    def get_classifier(self) -> torch.nn.Linear:
        return self.classifier


class Member(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = Network()

    def forward(self, film: torch.Tensor) -> torch.Tensor:
        return self.network.forward_head(self.network.forward_features(film))

    def list_blocks(self) -> dict[str, str]:
        return {f"network.{layer}": f"network.{layer}" for layer in ("conv_stem", "blocks.0", "conv_head", "classifier")}


class Weighing(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("coefficients", torch.randn(3, 2, 4))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return (self.coefficients @ rows.flatten()).softmax(dim=1).mean(dim=0)  # a matrix by a vector, as the real one


class Stub(torch.nn.Module):
    """The contract's outputs in the right shapes from modules with the pipeline's names, in a moment."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.spec = make_spec(SIDE)
        self.detector = Finder()
        self.members = torch.nn.ModuleDict({"ap": Member(), "lateral": Member()})
        self.ensemble = Weighing()
        self.eval()

    def forward(self, ap: torch.Tensor, lateral: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, ...]:
        films = torch.cat([ap.float(), lateral.float()]) / 255
        boxes = self.detector(films)
        rows = torch.cat([self.members["ap"](films[:1]), self.members["lateral"](films[1:])]).softmax(dim=1) * present.unsqueeze(1)
        probabilities = self.ensemble(rows)
        chosen, found = (probabilities > 0.5).to(torch.int32), present.to(torch.int32)
        return probabilities, rows, boxes, present * 0.5, found, 1 - rows, films[:, 0, ::4, ::4], chosen, rows.max().reshape(1), chosen[:1]


class WithUnknownOperator(Stub):
    def forward(self, ap: torch.Tensor, lateral: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = super().forward(ap, lateral, present)
        return (torch.linalg.eigvalsh(outputs[1]), *outputs[1:])


def make_inputs(seed: int = 0, present: tuple[int, int] = (1, 1), side: int = SIDE) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    films = {
        name: random.integers(0, 256, (1, 1, side, side), np.uint8) * np.uint8(given) for name, given in zip(VIEWS, present, strict=True)
    }
    return {**films, "present": np.array(present, np.float32)}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The stub in every precision."""
    made = {}
    for name, target in {
        "fp32": make_target("fp32"),
        "fp16": make_target("fp16"),
        "linear": make_target("w8a16"),
        "palettized": make_target("w8a16", "palettized", "iOS16"),
    }.items():
        folder = tmp_path_factory.mktemp(name)
        artifact = backend.convert(Stub(), target, folder, CalibrationPatients())
        assert artifact.files == tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
        assert "interpreted" in artifact.unproven[0]
        made[name] = folder / artifact.model
    return made


def test_the_file_has_the_contracts_features(packages: dict[str, Path]) -> None:
    specification, _ = read_specification(packages["fp16"])
    description = specification.description
    assert [feature.name for feature in description.input] == list(INPUTS)
    assert [feature.name for feature in description.output] == list(OUTPUTS)
    images = [feature.type.imageType for feature in description.input[:2]]
    assert [(image.width, image.height, image.colorSpace) for image in images] == [(SIDE, SIDE, 10)] * 2  # 8-bit gray
    arrays = [feature.type.multiArrayType.dataType for feature in (description.input[2], *description.output)]
    single, whole = 0x10000 | 32, 0x20000 | 32  # float32, and int32 for what was found, the set and the decision
    assert arrays == [single] * 5 + [whole] + [single] * 2 + [whole, single, whole]
    assert all(feature.shortDescription for feature in (*description.input, *description.output))


def test_xcode_shows_what_a_person_should_know(packages: dict[str, Path]) -> None:
    metadata = read_specification(packages["linear"])[0].description.metadata
    assert metadata.license == "AGPL-3.0-or-later"
    assert metadata.versionString == edgekit.__version__
    assert INTENDED_USE in metadata.shortDescription
    assert json.loads(metadata.userDefined["brands"]) == ["a", "b"]
    assert metadata.userDefined["classes"] == "a,b"


def test_the_file_says_what_systems_read_it(packages: dict[str, Path]) -> None:
    # Apple's table: specification 7 is iOS 16, 8 is iOS 17
    assert backend.describe(packages["palettized"])["specification"] == 7
    described = backend.describe(packages["linear"])
    assert (described["specification"], described["opset"]) == (8, "CoreML7")
    assert described["operators"]["conv"] == 7
    assert described["operators"]["constexpr_affine_dequantize"] == 2  # the members' large convolutions


def test_the_same_pipeline_gives_the_same_bytes_without_a_trace_of_this_machine(packages: dict[str, Path], tmp_path: Path) -> None:
    backend.convert(Stub(), make_target("w8a16"), tmp_path, CalibrationPatients())
    for path in (tmp_path / "model.mlpackage").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert content == (packages["linear"] / path.relative_to(tmp_path / "model.mlpackage")).read_bytes(), path
            for trace in (str(Path.cwd()), "site-packages", "pipeline.py", "test_coreml", "conversion_date"):
                assert trace.encode() not in content, trace


def test_torch_has_its_threads_back(packages: dict[str, Path]) -> None:
    before = torch.get_num_threads()
    with CoreMLReferenceSession(packages["fp32"], describe_inputs(SIDE), threads=before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["fp16", "linear"])
def test_every_stage_computes_in_its_own_precision(name: str, packages: dict[str, Path]) -> None:
    function = read_specification(packages[name])[0].mlProgram.functions["main"]
    types = {}
    for operation in function.block_specializations[function.opset].operations:
        types.setdefault(operation.type, []).extend(name_type(output.type) for output in operation.outputs)
    assert types["conv"] == ["float16"] * 7  # detector and members
    assert types["linear"] == ["float16"] * 2
    assert set(types["softmax"]) == set(types["matmul"]) == {"float32"}  # decode, members' probabilities, ensemble


def test_only_large_weights_of_the_networks_are_stored_in_8_bits(packages: dict[str, Path]) -> None:
    def stored(name: str) -> list[tuple[str, int]]:
        specification, folder = read_specification(packages[name])
        function = specification.mlProgram.functions["main"]
        blobs, found = Blobs(folder), []
        for operation in function.block_specializations[function.opset].operations:
            for value in operation.attributes.values():
                if value.HasField("blobFileValue"):
                    kind, content = blobs.read(value.blobFileValue.fileName, value.blobFileValue.offset)
                    found.append((kind, content.size))
        return found

    large = 64 * 64 * 9
    assert stored("fp16").count(("float16", 2 * large)) == 2
    assert stored("linear").count(("uint8", large)) == stored("palettized").count(("uint8", large)) == 2
    small = 64 * 9
    assert stored("linear").count(("float16", 2 * small)) == 2


def test_float32_computes_what_torch_computes(packages: dict[str, Path]) -> None:
    expected = TorchSession(Stub()).infer(make_inputs())
    with CoreMLReferenceSession(packages["fp32"], describe_inputs(SIDE)) as session:
        found = session.infer(make_inputs())
    assert list(found) == list(OUTPUTS)
    for name in OUTPUTS:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["fp16", "linear", "palettized"])
def test_below_float32_coordinates_stay_exact_and_probabilities_close(name: str, packages: dict[str, Path]) -> None:
    expected = TorchSession(Stub()).infer(make_inputs())
    with CoreMLReferenceSession(packages[name], describe_inputs(SIDE)) as session:
        found = session.infer(make_inputs())
    sides = found["boxes"][:, 2] - found["boxes"][:, 0]
    np.testing.assert_allclose(sides, 0.2, atol=1e-3)  # float16 has steps of 0.5 at 620
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=0.01)
    difference = np.abs(found["probabilities"] - expected["probabilities"]).max()
    assert 0 < difference < {"fp16": 2e-3}.get(name, 1e-2)


def test_what_it_can_not_make_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="minimum_os 'iOS15'"):
        backend.convert(Stub(), make_target("fp16", system="iOS15"), tmp_path, CalibrationPatients())
    with pytest.raises(InputError, match="linalg_eigvalsh"):
        backend.convert(WithUnknownOperator(), make_target("fp16"), tmp_path, CalibrationPatients())
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def tiny_package(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    return folder / backend.convert(load_pipeline(tiny_run, "ap+lateral"), make_target("fp32"), folder, CalibrationPatients()).model


@pytest.mark.parametrize("present", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_the_exported_pipeline_answers_as_the_run_does(tiny_run: Path, tiny_package: Path, present: tuple[int, int]) -> None:
    reference = TorchSession(load_pipeline(tiny_run, "ap+lateral"))
    with CoreMLReferenceSession(tiny_package, describe_inputs(128)) as session:
        for seed in range(3):
            inputs = make_inputs(seed, present, 128)
            expected, found = reference.infer(inputs), session.infer(inputs)
            for name in OUTPUTS:
                assert found[name].dtype == expected[name].dtype
                # Random members are steeper than trained ones: what is left of rounding shows in them first.
                tolerance = {"boxes": 0.5, "heatmaps": 1e-2, "members": 2e-3}.get(name, 1e-4)
                np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=tolerance, err_msg=name)


FEW = CalibrationPatients([make_inputs(seed) for seed in range(4)], ("a", "b") * 2)
EIGHT_BITS = replace(
    make_target("w8a8"),
    stages={"detector": "fp16", "geometry": "fp32", "members": "w8a8", "ensemble": "fp32"},
    calibration=Calibration("minmax", 4, 0.05),
)


def test_8_bit_activations_are_those_of_coremltools_quantizer(tmp_path: Path) -> None:
    package = tmp_path / backend.convert(Stub(), EIGHT_BITS, tmp_path, FEW).model
    described = backend.describe(package)["operators"]
    # Each member: the film, then after ReLU, block and ReLU; as one pair each, of coremltools' own making
    assert described["quantize"] == 2 * 4
    assert described["constexpr_affine_dequantize"] == 2 * 4  # three convolutions and the linear layer, all of them
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert EIGHT_BITS.calibration is not None
        quantized = quantize_activations(fold_batch_norms(Stub()), EIGHT_BITS.stages, FEW, EIGHT_BITS.calibration)
    with CoreMLReferenceSession(package, describe_inputs(SIDE)) as session:
        found = session.infer(make_inputs(9))
    np.testing.assert_allclose(found["members"], TorchSession(quantized).infer(make_inputs(9))["members"], atol=2e-3)
    np.testing.assert_allclose(found["members"], TorchSession(Stub()).infer(make_inputs(9))["members"], atol=2e-2)


def test_written_pairs_compute_what_torchs_quantized_tensors_compute() -> None:
    from coremltools.optimize.torch.quantization import LinearQuantizer, LinearQuantizerConfig

    torch.manual_seed(0)
    films = torch.randn(2, 1, 16, 16)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = {"global_config": {"quantization_scheme": "symmetric", "milestones": [0, 99, 99, 99]}}
        quantizer = LinearQuantizer(network, LinearQuantizerConfig.from_dict(settings))
        observed = quantizer.prepare(example_inputs=(films,)).eval()
        quantizer.step()
        with torch.no_grad():
            observed(films)
            graph = quantizer.finalize()
            expected = graph(films)
            found = write_pairs(graph)(films)
            exact = network(films)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert 1e-3 < float((found - exact).abs().max()) < 0.1


def test_8_bit_activations_ask_for_what_they_need(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="iOS 16 has no 8-bit activations"):
        backend.convert(Stub(), replace(EIGHT_BITS, settings={"minimum_os": "iOS16"}), tmp_path, FEW)
    with pytest.raises(InputError, match="need calibration patients, and there are none"):
        backend.convert(Stub(), EIGHT_BITS, tmp_path, CalibrationPatients())
    with pytest.raises(GateError, match="the recipe accepts"):
        backend.convert(Stub(), replace(EIGHT_BITS, calibration=Calibration("average", 4, 1e-30)), tmp_path, FEW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_whole_pipeline_takes_8_bit_activations(tiny_run: Path, tmp_path: Path) -> None:
    target = replace(make_target("w8a8"), calibration=Calibration("minmax", 4, 0.99))
    patients = CalibrationPatients([make_inputs(seed, side=128) for seed in range(4)], ("a", "b") * 2)
    package = tmp_path / backend.convert(load_pipeline(tiny_run, "ap+lateral"), target, tmp_path, patients).model
    described = backend.describe(package)["operators"]
    assert described["quantize"] > described["conv"]  # every convolution's input, and what is added
    assert described["constexpr_affine_dequantize"] == described["conv"] + 2  # and the members' linear layers
    with CoreMLReferenceSession(package, describe_inputs(128)) as session:
        assert session.infer(patients.inputs[0])["probabilities"].sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.macos
@pytest.mark.parametrize("name", ["fp32", "fp16", "linear", "palettized"])
def test_a_macs_own_runtime_answers_as_the_interpreter_does(name: str, packages: dict[str, Path]) -> None:
    with (
        CoreMLSession(packages[name], describe_inputs(SIDE)) as real,
        CoreMLReferenceSession(packages[name], describe_inputs(SIDE)) as interpreted,
    ):
        for present in ((1, 1), (1, 0), (0, 1)):
            inputs = make_inputs(0, present)
            expected, found = real.infer(inputs), interpreted.infer(inputs)
            for output in OUTPUTS:
                assert found[output].dtype == expected[output].dtype
                np.testing.assert_allclose(found[output], expected[output], atol=1e-4 if name == "fp32" else 1e-2, err_msg=output)
