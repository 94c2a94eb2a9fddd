"""ultralytics' own OpenVINO int8 export and predictor, and the members quantized by NNCF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.task import PEDICLE_SCREWS
from peers.setup import CALIBRATION, Script, Setup, cut_crop, export_detector, predict_boxes, save_checkpoint, without_telemetry
from peers.ultralytics_onnx import export_member

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgekit.types import Tensors


VIEWS = PEDICLE_SCREWS.views


def prepare(setup: Setup) -> None:
    """Quantize the three networks on the run's validation films."""
    read_validation(setup)  # refuses films that judge, even when the files are there
    with without_telemetry():
        _export(setup)
        for view in VIEWS:
            _quantize_member(setup, view)


def open_peer(setup: Setup, threads: int | None, hint: str | None) -> Script:
    """Open the three files; what is float in them is computed in `hint`, None leaves the choice to OpenVINO."""
    from edgekit.models.detector import import_ultralytics
    from edgekit.models.runfolder import load_detector_settings

    with without_telemetry():
        import_ultralytics()
        import openvino
        from ultralytics import YOLO, __version__

        _pin(openvino.Core, {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads})
        members = {}
        for view in VIEWS:
            network = openvino.Core().compile_model(_quantize_member(setup, view), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
            members[view] = lambda crop, network=network: network(crop)[0][0]
        precision = network.get_property("INFERENCE_PRECISION_HINT").to_string()
        find = predict_boxes(YOLO(_export(setup), task="detect"), setup.detector_side, load_detector_settings(setup.run).box_threshold)
        return Script(f"ultralytics {__version__}, openvino {openvino.__version__.split('-')[0]} {precision}", find, members, setup.run)


def read_validation(setup: Setup) -> Sequence[Tensors]:
    """Return the graph's inputs of the run's validation patients, as our own quantization reads them."""
    from edgekit.calibration import read_calibration
    from edgekit.models.runfolder import load_pipeline
    from edgekit.types import Calibration

    wanted = Calibration("minmax", CALIBRATION, 0.0)
    return read_calibration(setup.run, wanted, setup.judged_on, load_pipeline(setup.run).spec).patients.inputs


def _pin(core: Any, settings: dict[str, Any]) -> None:
    """Let everything that this process compiles have these settings, None left out: ultralytics' predictor offers none of its own."""
    compile_model, pinned = core.compile_model, {key: value for key, value in settings.items() if value is not None}

    def compile_pinned(self: Any, model: Any, device_name: str, config: dict[str, Any]) -> Any:
        return compile_model(self, model, device_name, {**config, **pinned})

    core.compile_model = compile_pinned


def _export(setup: Setup) -> Path:
    """Let ultralytics quantize: it wants its calibration films as image files that a YAML file names."""
    name = "detector_int8_openvino_model"
    if (setup.folder / f"detector-{setup.detector_side}" / name).exists():
        return setup.folder / f"detector-{setup.detector_side}" / name
    return export_detector(setup, name, format="openvino", int8=True, data=str(_write_films(setup)))


def _write_films(setup: Setup) -> Path:
    from PIL import Image

    folder = setup.folder / "films"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "labels").mkdir(exist_ok=True)
    for number, inputs in enumerate(read_validation(setup)):
        for column, view in enumerate(VIEWS):
            if inputs["present"][column] > 0.5:
                Image.fromarray(inputs[view][0, 0]).save(folder / "images" / f"{number:04d}_{view}.png")
                # A label is asked for, and not used: ranges need no truth.
                (folder / "labels" / f"{number:04d}_{view}.txt").write_text(f"{column} 0.5 0.5 0.5 0.5\n")
    names = "".join(f"  {column}: {view}\n" for column, view in enumerate(VIEWS))
    path = folder / "films.yaml"
    path.write_text(f"path: {folder}\ntrain: images\nval: images\nchannels: 1\nnames:\n{names}")
    return path


def _quantize_member(setup: Setup, view: str) -> Path:
    """Return a member's OpenVINO file, quantized on its crops of the validation films; boxes are the float detector's."""
    path = setup.folder / f"member_{view}_int8.xml"
    if not path.exists():
        import nncf
        import openvino
        from ultralytics import YOLO

        from edgekit.models.runfolder import load_detector_settings, load_settings

        detector, side = load_detector_settings(setup.run), load_settings(setup.run).crop_side
        find = predict_boxes(YOLO(save_checkpoint(setup)), detector.side, detector.box_threshold)
        films = [inputs[view][0, 0] for inputs in read_validation(setup) if inputs["present"][VIEWS.index(view)] > 0.5]
        crops = [cut_crop(film, box, side) for film, box in zip(films, find(films), strict=True) if box is not None]
        model = openvino.Core().read_model(export_member(setup, view))
        dataset = nncf.Dataset(crops, lambda crop: np.asarray(crop))
        openvino.save_model(nncf.quantize(model, dataset, preset=nncf.QuantizationPreset.MIXED, subset_size=len(crops)), path)
    return path
