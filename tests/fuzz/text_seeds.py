"""Small sound tables, settings, manifests and weights of every kind that edgekit reads, made by code."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

from edgekit.manifest import to_document

sys.path.append(str(Path(__file__).parents[1]))  # every fuzzed process is started as a script, in its own folder

from pedicle_screws import make_manifest

STUDIES = """patient_id,brand,has_crosslink,split,ap,lateral,ap_box,lateral_box,exclude
p1,design-a,0,train,a.png,b.png,1 2 3 4,,
p2,none,,test,c.png,,,,
p3,design-b,1,,,d.png,,"0,5 1 8.25 9",
p4,,,external,e\u0301.png,,,,"blurred, see ""note"", too"
"""
PREDICTIONS = """patient_id,brand,has_crosslink,p_design-a,p_design-b,p_d\u00e9sign
p1,design-a,0,0.25,0.5,0.25
p2,,,1,0,0
p3,none,1,3.3e-1,0.33,0.34
"""
FILMS = ("a.png", "b.png", "c.png", "d.png", "\u00e9.png")
"""The films that lie beside the table of studies."""

RECIPE = """backend = "onnx"
ensemble = "ap+lateral"
sessions = ["onnxruntime"]
opset = 20
corners = "int8"

[variants.fp32]
stages = { detector = "fp32", geometry = "fp32", members = "fp32", ensemble = "fp32" }
judge = { basis = "numerical" }

[variants.w8a8]
stages = { detector = "w8a8", geometry = "fp32", members = "w8a8", ensemble = "fp32" }
judge = { basis = "statistical", margin = 0.01, agreement = 0.985 }
calibration = { method = "minmax", patients = 128, changed = 0.02 }
options = { activations = "uint8" }
budget = { size_mb = 10.5, p50_ms = 50.0 }
"""
CONFIG = """seed = 7
device = "cpu"
canvas_side = 768
tensorboard = false

[detector]
side = 256
backbone = "efficientnet_lite0"
activation = "relu"
learning_rate = 2e-3
rotation_degrees = 5

[members]
names = ["ap", "lateral"]
epochs = 3
gamma = 0.1

[corners]
photos = 0

[ensembles]
coverage = 0.95
folds = 5
"""


def seed_tables(text: str) -> dict[str, bytes]:
    """A table as it is, and as spreadsheets of several systems save it."""
    semicolons = text.replace(",", ";").replace('"0;5 1', "0,5 1").replace('9"', "9")
    return {
        "plain": text.encode(),
        "mark": b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(),
        "semicolons": ("sep=;\r\n" + semicolons).encode(),
        "tabs": text.replace(",", "\t").replace("\n", "\r").encode("utf-16"),
        "spaces": text.replace(",", " , ").replace("\n", "\n\n").encode(),
        "latin": text.encode("latin-1", "replace"),
    }


def seed_studies() -> dict[str, bytes]:
    """Tables of studies."""
    return seed_tables(STUDIES)


def seed_predictions() -> dict[str, bytes]:
    """Tables of answers."""
    return seed_tables(PREDICTIONS)


def seed_recipe() -> dict[str, bytes]:
    """Recipes of targets."""
    return {"two-variants": RECIPE.encode(), "one-variant": RECIPE.partition("[variants.w8a8]")[0].encode()}


def seed_config() -> dict[str, bytes]:
    """Settings of a training."""
    return {"all": CONFIG.encode(), "one": b"[members]\nepochs = 3\n", "empty": b""}


# --- a bundle ------------------------------------------------------------------------------------------------------------------

BUNDLE = {"model.onnx": b"graph", "golden/ap.png": b"film", "MODEL_CARD.md": b"card"}
"""The files of a bundle, except its manifest and ``processors.json``."""


def seal(manifest: Any, key: str = "manifest_sha256") -> bytes:
    """A manifest with the right hash of itself, as `edgekit.manifest` writes it; what isn't a table has none."""

    def dump(document: Any) -> bytes:
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")

    if not isinstance(manifest, dict):
        return dump(manifest)
    content = {name: value for name, value in manifest.items() if name != key}
    return dump({**content, key: hashlib.sha256(dump(content)).hexdigest()})


def _measure(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def seed_processors() -> bytes:
    """The ``processors.json`` of a bundle of `BUNDLE`."""
    document = {"schema": 1, "model_sha256": "0" * 64, "card": _measure(BUNDLE["MODEL_CARD.md"]), "processors": []}
    return seal(document, "processors_sha256")


def seed_manifest() -> dict[str, bytes]:
    """The manifest of a bundle of `BUNDLE`."""
    files = {name: _measure(content) for name, content in BUNDLE.items() if name != "MODEL_CARD.md"}
    manifest = to_document(make_manifest(brands=("design-a", "design-b"), canvas={"side": 128}, files=files))
    return {"sound": seal(manifest), "no-files": seal({**manifest, "files": {}})}


# --- a run folder --------------------------------------------------------------------------------------------------------------


def pack_weights(header: Any, data: bytes) -> bytes:
    """A safetensors file: the length of its header, the header, the tensors' bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def seed_weights() -> dict[str, bytes]:
    """Weights of `torch.nn.Linear(2, 3)`, and others."""
    linear = {
        "weight": {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]},
        "bias": {"dtype": "F32", "shape": [3], "data_offsets": [24, 36]},
    }
    half = {
        "weight": {"dtype": "F16", "shape": [3, 2], "data_offsets": [0, 12]},
        "bias": {"dtype": "I64", "shape": [0], "data_offsets": [12, 12]},
    }
    return {
        "linear": pack_weights(linear, bytes(36)),
        "described": pack_weights({"__metadata__": {"format": "pt"}, **linear}, b"\0\0\x80\x3f" * 9),
        "half": pack_weights(half, bytes(12)),
        "none": pack_weights({}, b""),
    }


def seed_run() -> dict[str, bytes]:
    """The JSON documents of a run folder in one, by name."""
    case = {
        "members": ["ap"],
        "coefficients": [[0.5, -0.5], [1.0, 2.0]],
        "intercepts": [0.0, 0.1],
        "regularisation": 1.0,
        "conformal_threshold": 0.2,
        "unfamiliar_threshold": 0.9,
    }
    documents = {
        "pipeline": {
            "brands": ["a", "b"],
            "canvas_side": 128,
            "crop_side": 64,
            "architectures": {"ap": "efficientnet_lite0"},
            "ensemble": "ap",
            "view_margin": 0.3,
            "coverage": 0.95,
        },
        "detector": {"side": 64, "activation": "relu", "backbone": "yolov5n", "box_threshold": 0.5},
        "ensembles": {"ap": {"name": "ap", "members": ["ap"], "fitted": {"ap": case}, "validation_log_loss": 1.0}},
        "provenance": {"studies": {"path": "", "sha256": ""}},
    }
    return {"sound": json.dumps(documents, indent=1).encode()}
