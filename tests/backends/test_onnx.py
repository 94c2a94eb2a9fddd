from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from pedicle_screws import INPUTS, describe_inputs, make_spec

import edgekit
from edgekit.backends import BACKENDS
from edgekit.backends import onnx as backend
from edgekit.contract import OUTPUTS
from edgekit.errors import InputError, MissingError, UsageError
from edgekit.golden import read_golden
from edgekit.manifest import open_bundle
from edgekit.models.runfolder import find_run, load_pipeline
from edgekit.quantization.foresight import CalibrationPatients
from edgekit.sessions import SESSIONS, open_session
from edgekit.sessions.onnxruntime import OnnxRuntimeSession
from edgekit.sessions.torch import TorchSession, open_run
from edgekit.targets import load_target
from edgekit.types import Bundle

SIDE = 32


class Stub(torch.nn.Module):
    """The contract's outputs in the right shapes, through a convolution with batch normalization, in a moment."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.spec = make_spec(SIDE)
        self.detector, self.members = None, torch.nn.ModuleDict()
        self.conv = torch.nn.Conv2d(1, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.eval()

    def forward(self, ap: torch.Tensor, lateral: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, ...]:
        films = torch.cat([ap.float(), lateral.float()]) / 255
        features = self.norm(self.conv(films)).mean(dim=(2, 3)) * present.unsqueeze(1)  # (2, 4)
        probabilities = features.sum(dim=0)[:2].softmax(dim=0)
        chosen, found = (probabilities > 0.5).to(torch.int32), present.to(torch.int32)
        heatmaps = features[:, :, None] * torch.ones(4)
        scores = features.sum(dim=1)
        return probabilities, features[:, :2], features, scores, found, features[:, 2:], heatmaps, chosen, scores[:1], chosen[:1]


class WithUnknownOperator(Stub):
    def forward(self, ap: torch.Tensor, lateral: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = super().forward(ap, lateral, present)
        return (torch.linalg.eigvalsh(outputs[1]), *outputs[1:])


@pytest.fixture(scope="module")
def stub_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stub")
    artifact = backend.convert(Stub(), load_target("web:onnx-fp32"), folder, CalibrationPatients())
    assert artifact.files == tuple(path.name for path in folder.iterdir()) == ("model.onnx",)
    return folder / artifact.model


def test_the_file_has_the_contracts_tensors_and_no_other_operators(stub_model: Path) -> None:
    model = onnx.load(stub_model)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == list(INPUTS)
    assert [value.name for value in model.graph.output] == list(OUTPUTS)
    types = [value.type.tensor_type for value in (*model.graph.input, *model.graph.output)]
    shapes = [[dim.dim_value for dim in each.shape.dim] for each in types]
    assert shapes[:4] == [[1, 1, SIDE, SIDE], [1, 1, SIDE, SIDE], [2], [2]]
    assert [each.elem_type for each in types] == [2, 2, *[1] * 5, 6, 1, 1, 6, 1, 6]  # uint8, uint8, floats; int32 found, set and decision
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 20)]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    properties = {each.key: each.value for each in model.metadata_props}
    assert properties["edgekit"] == edgekit.__version__
    assert json.loads(properties["brands"]) == ["a", "b"]
    assert backend.describe(stub_model)["operators"]["Conv"] == 1


def test_the_same_pipeline_gives_the_same_bytes_without_a_trace_of_this_machine(stub_model: Path, tmp_path: Path) -> None:
    backend.convert(Stub(), load_target("web:onnx-fp32"), tmp_path, CalibrationPatients())
    content = (tmp_path / "model.onnx").read_bytes()
    assert content == stub_model.read_bytes()
    assert_no_trace_of_this_machine(content)


def assert_no_trace_of_this_machine(content: bytes) -> None:
    folders = Path(edgekit.__file__).parents[1], Path(torch.__file__).parent, Path.cwd()
    for trace in (*map(str, folders), "site-packages", "pipeline.py", '", line '):
        assert trace.encode() not in content, trace


def test_it_computes_what_torch_computes(stub_model: Path) -> None:
    random = np.random.default_rng(0)
    inputs = {
        "ap": random.integers(0, 256, (1, 1, SIDE, SIDE), np.uint8),
        "lateral": random.integers(0, 256, (1, 1, SIDE, SIDE), np.uint8),
        "present": np.array([1, 0], np.float32),
    }
    with OnnxRuntimeSession(stub_model, describe_inputs(SIDE), threads=1) as session:
        found = session.infer(inputs)
        assert session._session.get_providers() == ["CPUExecutionProvider"]
    expected = TorchSession(Stub()).infer(inputs)
    assert list(found) == list(OUTPUTS)
    for name in OUTPUTS:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6, err_msg=name)


def test_opset_18_is_honoured_and_17_refused(tmp_path: Path) -> None:
    backend.convert(Stub(), replace(load_target("web:onnx-fp32"), settings={"opset": 18}), tmp_path, CalibrationPatients())
    assert backend.describe(tmp_path / "model.onnx")["opset"] == 18
    with pytest.raises(InputError, match="opset 17"):
        backend.convert(Stub(), replace(load_target("web:onnx-fp32"), settings={"opset": 17}), tmp_path, CalibrationPatients())


def test_what_it_can_not_make_is_an_error_that_names_it(tmp_path: Path) -> None:
    target = load_target("web:onnx-fp32")
    with pytest.raises(InputError, match="eigh"):
        backend.convert(WithUnknownOperator(), target, tmp_path, CalibrationPatients())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("ap", np.zeros((1, 1, SIDE, SIDE), np.float32), r"'ap' is float32 .* expected uint8 \(1, 1, 32, 32\)"),
        ("lateral", np.zeros((1, 1, 64, 64), np.uint8), r"'lateral' is uint8 \(1, 1, 64, 64\)"),
        ("present", np.zeros(2), "'present' is float64"),
        ("lateral", None, "takes the tensors ap, lateral, present"),
    ],
)
def test_wrong_inputs_are_told_apart(stub_model: Path, name: str, tensor: np.ndarray | None, message: str) -> None:
    canvas = np.zeros((1, 1, SIDE, SIDE), np.uint8)
    inputs = {"ap": canvas, "lateral": canvas, "present": np.ones(2, np.float32), name: tensor}
    inputs = {key: value for key, value in inputs.items() if value is not None}
    for session in (OnnxRuntimeSession(stub_model, describe_inputs(SIDE)), TorchSession(Stub())):
        with pytest.raises(InputError, match=message):
            session.infer(inputs)


def test_an_unreadable_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(MissingError, match="can't open"):
        OnnxRuntimeSession(tmp_path / "model.onnx", describe_inputs(SIDE))


def test_the_exported_pipeline_answers_as_the_run_does(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert_no_trace_of_this_machine(bundle.model.read_bytes())
    with open_run(find_run(bundle), bundle.manifest.ensemble) as reference, open_session("onnxruntime", bundle) as session:
        for case in read_golden(bundle):
            expected, found = reference.infer(case.inputs), session.infer(case.inputs)
            for name in OUTPUTS:
                assert found[name].dtype == expected[name].dtype
                # Random members are steeper than trained ones: what is left of rounding shows in them first.
                tolerance = {"boxes": 0.5, "heatmaps": 1e-2, "members": 2e-3}.get(name, 1e-4)
                np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=tolerance, err_msg=f"{case.name} {name}")


def test_every_backend_offers_what_the_protocol_says_and_refuses_other_sessions(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    for module in BACKENDS.values():
        assert set(module.SESSIONS) <= set(SESSIONS)
    with pytest.raises(UsageError, match="no session 'abacus'"):
        open_session("abacus", bundle)


def test_a_session_opens_what_the_manifest_names(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    shutil.copy(bundle.model, tmp_path / "other.onnx")
    elsewhere = Bundle(tmp_path, replace(bundle.manifest, model="other.onnx"))
    with open_session("onnxruntime", elsewhere, threads=1) as session:
        assert session.infer(read_golden(bundle)[0].inputs)["probabilities"].shape == (3,)


def test_two_lower_precisions_in_one_graph_are_refused(tmp_path: Path) -> None:
    target = load_target("web:onnx-fp32")
    mixed = replace(target, stages={**target.stages, "detector": "fp16", "members": "w8a8"})
    with pytest.raises(InputError, match="fp16 and w8a8 in one graph"):
        backend.convert(Stub(), mixed, tmp_path, CalibrationPatients())


def test_float16_stages_are_stored_in_half_the_bytes(tiny_run: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    target = load_target("web:onnx-fp32")
    halved = replace(target, precision="fp16", stages={**target.stages, "detector": "fp16", "members": "fp16"})
    backend.convert(load_pipeline(tiny_run, "ap+lateral"), halved, tmp_path, CalibrationPatients())
    size, whole = (tmp_path / "model.onnx").stat().st_size, (tiny_bundle / "model.onnx").stat().st_size
    assert size < 0.53 * whole
    bundle = open_bundle(tiny_bundle)
    with open_session("onnxruntime", bundle) as single, OnnxRuntimeSession(tmp_path / "model.onnx", describe_inputs(128)) as half:
        case = read_golden(bundle)[0]
        difference = single.infer(case.inputs)["probabilities"] - half.infer(case.inputs)["probabilities"]
    assert 0 < np.abs(difference).max() < 0.02
