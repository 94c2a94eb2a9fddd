"""Where nodes belong, as the networks say it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from edgekit.graphs.exporting import export_graph
from edgekit.graphs.places import STAGES, Place, Places, find_places
from edgekit.models.classifier import Classifier
from edgekit.models.detector import Detector
from edgekit.models.runfolder import load_pipeline


@pytest.fixture(scope="module")
def lite0() -> Places:
    members = {"ap": Classifier("efficientnet_lite0", 3)}
    return find_places(SimpleNamespace(detector=Detector("silu", 64, "efficientnet_lite0", 2), members=members))


@pytest.mark.parametrize(
    ("node", "stage", "block"),
    [
        ("members.ap.network.blocks.3.1.conv_dw/conv2d_97", "members", "members.ap.network.blocks.3"),
        ("members.ap.network.bn1/hardtanh_22", "members", "members.ap.network.conv_stem"),
        ("members.ap.network.conv_head/conv2d_2", "members", "members.ap.network.conv_head"),
        ("members.ap.network.classifier/linear", "members", "members.ap.network"),
        ("detector.network.model.0.blocks.2.1.conv_pw/conv2d_12", "detector", "detector.network.model.0.blocks.2"),
        ("detector.network.model.0.stem.1/hardtanh", "detector", "detector.network.model.0.stem"),
        ("detector.network.model.24.cv2.1.0.act/relu_34", "detector", "detector.network.model.24.cv2.1.0"),
        ("detector.network.model.13.cv1.conv/conv2d_40", "detector", "detector.network.model.13"),
        ("detector.network.model.slice(None, -1, None).3.conv", "detector", "detector.network.model"),
        ("detector/view", "geometry", None),
        ("ensemble/matmul", "ensemble", None),
        ("cat", "geometry", None),
        ("", "geometry", None),
    ],
)
def test_a_node_belongs_where_its_network_says(lite0: Places, node: str, stage: str, block: str | None) -> None:
    found = lite0.find(node)
    assert found.stage == stage
    if block != "detector.network.model":  # of a walk over a slice only the stage is known
        assert found.block == block


def test_every_convolution_of_an_exported_pipeline_is_in_a_block_of_a_network(tiny_run: Path) -> None:
    pipeline = load_pipeline(tiny_run, "ap+lateral")
    places = find_places(pipeline)
    found = {node.name: places.find(node.name) for node in export_graph(pipeline, 20).graph.node}
    assert {place.stage for place in found.values()} == set(STAGES)
    assert all((place.block is None) == (place.stage in ("geometry", "ensemble")) for place in found.values())
    convolutions = {name: place for name, place in found.items() if "/conv2d" in name}
    assert len(convolutions) > 100
    assert Place("geometry") not in convolutions.values()
    assert {place.block for place in convolutions.values() if place.stage == "members"} >= {
        f"members.{view}.network.{layer}" for view in ("ap", "lateral") for layer in ("conv_stem", "blocks.0", "blocks.6", "conv_head")
    }


def test_whoever_distributes_a_file_is_told_whose_networks_are_in_it() -> None:
    assert "AGPL-3.0" in Detector.notice
    assert "Apache-2.0" in Classifier.notice
