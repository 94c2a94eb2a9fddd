"""Compressed weights: what the interpreter makes of them is what coremltools' own decompression makes of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.formats.mlpackage import import_coremltools, read_specification
from edgekit.sessions.coreml_reference import interpret

ct = import_coremltools()
from coremltools.optimize import coreml  # noqa: E402


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """What coremltools warns of here: temporary folders left to the garbage collector, torch's tracer, divisions of empty channels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def convert(system: Any, precision: Any) -> Any:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3), torch.nn.Flatten(), torch.nn.Linear(32 * 16, 10)
    )
    with torch.no_grad():
        network[2].weight[5] = 0.0  # a channel without range
    program = torch.export.export(network.eval(), (torch.zeros(1, 3, 8, 8),)).run_decompositions({})
    return ct.convert(
        program,
        inputs=[ct.TensorType("x", (1, 3, 8, 8), dtype=np.float32)],
        outputs=[ct.TensorType("y", dtype=np.float32)],
        minimum_deployment_target=system,
        compute_precision=precision,
        skip_model_load=True,
    )


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "iOS16": convert(ct.target.iOS16, ct.precision.FLOAT32),
            "iOS16 half": convert(ct.target.iOS16, ct.precision.FLOAT16),
            "iOS18": convert(ct.target.iOS18, ct.precision.FLOAT32),
            "iOS18 half": convert(ct.target.iOS18, ct.precision.FLOAT16),
        }


def linear(model: Any, joint: bool = False, **settings: Any) -> Any:
    config = coreml.OptimizationConfig(coreml.OpLinearQuantizerConfig(weight_threshold=0, **settings))
    return coreml.linear_quantize_weights(model, config, joint_compression=joint)


def palettize(model: Any, joint: bool = False, **settings: Any) -> Any:
    config = coreml.OptimizationConfig(coreml.OpPalettizerConfig(weight_threshold=0, **settings))
    return coreml.palettize_weights(model, config, joint_compression=joint)


def prune(model: Any) -> Any:
    return coreml.prune_weights(model, coreml.OptimizationConfig(coreml.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=0)))


COMPRESSIONS = {
    "symmetric, a scale a channel": ("iOS16", lambda m: linear(m, mode="linear_symmetric"), "constexpr_affine_dequantize"),
    "with zero points, float16": ("iOS16 half", lambda m: linear(m, mode="linear", dtype="uint8"), "constexpr_affine_dequantize"),
    "one scale": ("iOS16", lambda m: linear(m, granularity="per_tensor"), "constexpr_affine_dequantize"),
    "4 bits in blocks": (
        "iOS18",
        lambda m: linear(m, dtype="int4", granularity="per_block", block_size=8),
        "constexpr_blockwise_shift_scale",
    ),
    "unsigned 4 bits with zero points": (
        "iOS18 half",
        lambda m: linear(m, mode="linear", dtype="uint4", granularity="per_channel"),
        "constexpr_blockwise_shift_scale",
    ),
    **{
        f"a table of {2**bits}": ("iOS16", lambda m, bits=bits: palettize(m, mode="kmeans", nbits=bits), "constexpr_lut_to_dense")
        for bits in (1, 2, 4, 6)
    },
    "uniform table of 256, float16": ("iOS16 half", lambda m: palettize(m, mode="uniform", nbits=8), "constexpr_lut_to_dense"),
    "a table for each 4 channels": (
        "iOS18",
        lambda m: palettize(m, mode="kmeans", nbits=3, granularity="per_grouped_channel", group_size=4),
        "constexpr_lut_to_dense",
    ),
    "a table of pairs": ("iOS18", lambda m: palettize(m, mode="kmeans", nbits=4, cluster_dim=2), "constexpr_lut_to_dense"),
    "sparse": ("iOS16", prune, "constexpr_sparse_to_dense"),
    "sparse, by mask": ("iOS18 half", prune, "constexpr_sparse_to_dense"),
    "sparse and palettized": ("iOS18", lambda m: palettize(prune(m), joint=True, mode="kmeans", nbits=4), "constexpr_lut_to_sparse"),
    "sparse and quantized": ("iOS18", lambda m: linear(prune(m), joint=True), "constexpr_sparse_blockwise_shift_scale"),
    "palettized, its table quantized": (
        "iOS18",
        lambda m: linear(palettize(m, mode="kmeans", nbits=4), joint=True, granularity="per_tensor"),
        "constexpr_lut_to_dense",
    ),
}


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_compressed_weights_are_what_coremltools_decompresses(name: str, models: dict[str, Any], tmp_path: Path) -> None:
    kind, compress, operator = COMPRESSIONS[name]
    compressed = compress(models[kind])
    compressed.save(str(tmp_path / "small.mlpackage"))
    coreml.decompress_weights(compressed).save(str(tmp_path / "large.mlpackage"))
    assert operator in operators(tmp_path / "small.mlpackage")
    assert not any(each.startswith("constexpr") for each in operators(tmp_path / "large.mlpackage"))
    x = {"x": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    found, expected = (interpret(tmp_path / f"{size}.mlpackage")(x)["y"] for size in ("small", "large"))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def operators(package: Path) -> set[str]:
    function = read_specification(package)[0].mlProgram.functions["main"]
    return {operation.type for operation in function.block_specializations[function.opset].operations}
