"""The session, the file reader, float16 rounding, and everything that can be wrong with a package."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pedicle_screws import describe_inputs, make_manifest

from edgekit.errors import InputError, MissingError
from edgekit.formats.mlpackage import import_coremltools
from edgekit.sessions import coreml
from edgekit.sessions.coreml_reference import CoreMLReferenceSession, interpret, open_session
from edgekit.types import Bundle

ct = import_coremltools()


def convert(network: torch.nn.Module, inputs: list[Any], path: Path, precision: str = "FLOAT32", **settings: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = tuple(torch.zeros(tuple(each.shape.shape)) for each in inputs)
        program = torch.export.export(network.eval(), example).run_decompositions({})
        settings.setdefault("outputs", [ct.TensorType("y", dtype=np.float32)])
        ct.convert(
            program,
            inputs=inputs,
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision[precision],
            skip_model_load=True,
            **settings,
        ).save(str(path))
    return path


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(1, 4, 3)
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.relu(self.conv(x)).mean(dim=(2, 3))).softmax(dim=1)


TENSOR = ct.TensorType("x", (1, 1, 8, 8), dtype=np.float32)
X = np.random.default_rng(0).normal(size=(1, 1, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(Network(), [TENSOR], tmp_path_factory.mktemp("whole") / "model.mlpackage")


@pytest.fixture(scope="module")
def half_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(Network(), [TENSOR], tmp_path_factory.mktemp("half") / "model.mlpackage", "FLOAT16")


def answer(package: Path, half: bool | None = None) -> np.ndarray:
    return interpret(package, half)({"x": X})["y"]


def test_half_says_what_is_rounded(package: Path, half_package: Path) -> None:
    with torch.no_grad():
        exact = Network()(torch.from_numpy(X)).numpy()
        # The same by hand: every result has float16's steps, sums are float32.
        network, cut = Network(), lambda tensor: tensor.half().float()
        for parameter in network.parameters():
            parameter.copy_(cut(parameter))
        features = cut(torch.relu(cut(network.conv(cut(torch.from_numpy(X))))).mean(dim=(2, 3)))
        rounded = cut(cut(network.linear(features)).softmax(dim=1)).numpy()
    np.testing.assert_allclose(answer(package), exact, atol=1e-6)
    np.testing.assert_array_equal(answer(half_package), rounded)
    np.testing.assert_array_equal(answer(package, half=True), rounded)
    assert np.abs(rounded - exact).max() > 1e-5
    # Weights are stored in float16; the arithmetic on them is not rounded.
    assert 0 < np.abs(answer(half_package, half=False) - exact).max() < 1e-3
    assert not np.array_equal(answer(half_package, half=False).astype(np.float16), answer(half_package, half=False))


def test_float16_overflows_as_it_does(tmp_path: Path) -> None:
    class Large(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * 300.0) / 300.0

    package = convert(Large(), [ct.TensorType("x", (4,), dtype=np.float32)], tmp_path / "model.mlpackage", "FLOAT16")
    found = interpret(package)({"x": np.array([1, 200, 300, -300], np.float32)})["y"]
    np.testing.assert_array_equal(found, [1, 200, np.inf, -np.inf])  # 65,504 is the largest


def test_an_image_is_scaled_and_shifted_as_the_model_says(tmp_path: Path) -> None:
    class Sum(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.sum(dim=(2, 3))

    image = ct.ImageType("image", (1, 3, 2, 2), scale=1 / 127.5, bias=[-1.0, -0.5, 0.0], color_layout=ct.colorlayout.RGB)
    package = convert(Sum(), [image], tmp_path / "model.mlpackage")
    pixels = np.array([0, 51, 255], np.uint8).reshape(1, 3, 1, 1).repeat(2, 2).repeat(2, 3)
    np.testing.assert_allclose(interpret(package)({"image": pixels})["y"], [[-4.0, 4 * (0.4 - 0.5), 8.0]], atol=1e-6)


def test_a_classifier_gives_its_label_and_the_probabilities_in_order(tmp_path: Path) -> None:
    labels = ["screw", "rod", "cage"]
    package = convert(Network(), [TENSOR], tmp_path / "model.mlpackage", outputs=None, classifier_config=ct.ClassifierConfig(labels))
    label, probabilities = interpret(package)({"x": X}).values()
    with torch.no_grad():
        expected = Network()(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    assert str(label) == labels[expected.argmax()]


def edit_program(package: Path, folder: Path, edit: Callable[[Any], None]) -> Path:
    """Copy a package and change the operators of its program."""
    copy = folder / "edited.mlpackage"
    shutil.copytree(package, copy)
    path = copy / "Data" / "com.apple.CoreML" / "model.mlmodel"
    specification = ct.proto.Model_pb2.Model()
    specification.ParseFromString(path.read_bytes())
    function = specification.mlProgram.functions["main"]
    edit(function.block_specializations[function.opset].operations)
    path.write_bytes(specification.SerializeToString())
    return copy


def find(operations: Any, kind: str) -> Any:
    return next(each for each in operations if each.type == kind)


def test_an_unknown_operator_is_named(package: Path, tmp_path: Path) -> None:
    def rename(operations: Any) -> None:
        find(operations, "softmax").type = "softmax_of_tomorrow"

    with pytest.raises(InputError, match="operator softmax_of_tomorrow 'softmax' is not known"):
        interpret(edit_program(package, tmp_path, rename))


def test_an_unknown_argument_is_named(package: Path, tmp_path: Path) -> None:
    def add(operations: Any) -> None:
        operation = find(operations, "softmax")
        operation.inputs["temperature"].CopyFrom(operation.inputs["axis"])

    with pytest.raises(InputError, match="softmax 'softmax': it has the argument 'temperature', which is not known"):
        interpret(edit_program(package, tmp_path, add))


def test_a_result_in_another_shape_than_declared_is_an_error(package: Path, tmp_path: Path) -> None:
    def change(operations: Any) -> None:
        find(operations, "reduce_mean").outputs[0].type.tensorType.dimensions[1].constant.size = 5

    broken = interpret(edit_program(package, tmp_path, change))
    with pytest.raises(InputError, match=r"reduce_mean .* shape \(1, 4\), the program declares \(1, 5\)"):
        broken({"x": X})


def test_a_damaged_package_is_told(package: Path, tmp_path: Path) -> None:
    def copy() -> Path:
        shutil.rmtree(tmp_path / "copy.mlpackage", ignore_errors=True)
        shutil.copytree(package, tmp_path / "copy.mlpackage")
        return tmp_path / "copy.mlpackage"

    with pytest.raises(InputError, match=r"not a readable \.mlpackage"):
        interpret(tmp_path / "missing.mlpackage")
    damaged = copy()
    (damaged / "Manifest.json").write_text("{}")
    with pytest.raises(InputError, match=r"not a readable \.mlpackage"):
        interpret(damaged)
    damaged = copy()
    (damaged / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(b"\x07nonsense")
    with pytest.raises(InputError, match="not a Core ML model"):
        interpret(damaged)
    damaged = copy()
    weights = damaged / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="no constant at byte"):
        interpret(damaged)
    weights.unlink()
    with pytest.raises(InputError, match="weights can't be read"):
        interpret(damaged)


def test_no_file_outside_the_package_is_read(package: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes((package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").read_bytes())

    def point_outside(operations: Any) -> None:
        for operation in operations:
            for value in operation.attributes.values():
                if value.HasField("blobFileValue"):
                    value.blobFileValue.fileName = "@model_path/../../../secret.bin"

    with pytest.raises(InputError, match="outside the package"):
        interpret(edit_program(package, tmp_path, point_outside))
    shutil.copytree(package, tmp_path / "copy.mlpackage")
    shutil.copy(package / "Data" / "com.apple.CoreML" / "model.mlmodel", tmp_path / "other.mlmodel")
    manifest = json.loads((package / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = "../../other.mlmodel"
    (tmp_path / "copy.mlpackage" / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="outside the package"):
        interpret(tmp_path / "copy.mlpackage")


def test_another_kind_of_model_is_refused(tmp_path: Path, package: Path) -> None:
    copy = tmp_path / "copy.mlpackage"
    shutil.copytree(package, copy)
    tree = ct.proto.Model_pb2.Model()
    tree.treeEnsembleRegressor.SetInParent()
    (copy / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(tree.SerializeToString())
    with pytest.raises(InputError, match="of type treeEnsembleRegressor, expected an ML Program"):
        interpret(copy)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "takes the inputs x, got none"),
        ({"z": X}, "takes the inputs x, got z"),
        ({"x": X[0]}, r"input 'x' has the shape \(1, 8, 8\), the model takes \(1, 1, 8, 8\)"),
    ],
)
def test_wrong_inputs_are_told_apart(package: Path, inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        interpret(package)(inputs)


def test_a_bundle_whose_program_is_another_is_told(tmp_path: Path) -> None:
    films = [ct.ImageType(view, (1, 1, 8, 8), color_layout=ct.colorlayout.GRAYSCALE) for view in ("ap", "lateral")]

    class Other(torch.nn.Module):
        def forward(self, ap: torch.Tensor, lateral: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
            return (ap.mean() + lateral.mean()) * present

    convert(Other(), [*films, ct.TensorType("present", (2,), dtype=np.float32)], tmp_path / "model.mlpackage")
    bundle = Bundle(tmp_path, make_manifest(model="model.mlpackage", tensors={"inputs": describe_inputs(8)}))
    film = np.zeros((1, 1, 8, 8), np.uint8)
    with open_session(bundle, threads=1) as session:
        assert session.name == "coreml-reference"
        assert "interpreted" in session.runtime
        with pytest.raises(InputError, match="no output 'probabilities'"):
            session.infer({"ap": film, "lateral": film, "present": np.ones(2, np.float32)})
        with pytest.raises(InputError, match="'ap' is float32"):
            session.infer({"ap": film.astype(np.float32), "lateral": film, "present": np.ones(2, np.float32)})
    assert isinstance(session, CoreMLReferenceSession)


@pytest.mark.skipif(sys.platform == "darwin", reason="this is a Mac: Core ML is there")
def test_elsewhere_than_on_a_mac_the_real_runtime_is_missing(package: Path) -> None:
    with pytest.raises(MissingError, match="runs on a Mac only") as error:
        coreml.CoreMLSession(package, {})
    assert "coreml-reference" in error.value.remedy


@pytest.mark.macos
@pytest.mark.parametrize("half", [False, True])
def test_the_real_runtime_answers_as_the_interpreter_does(half: bool, package: Path, half_package: Path) -> None:
    model = half_package if half else package
    real = ct.models.MLModel(str(model)).predict({"x": X})["y"]
    np.testing.assert_allclose(answer(model), real, atol=2e-3 if half else 1e-5)
