from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import InputError, UsageError
from edgekit.targets import list_targets, list_variants, load_target

STAGES = 'stages = { detector = "fp32", geometry = "fp32", members = "fp32", ensemble = "fp32" }\n'
HEAD = 'backend = "onnx"\nensemble = "best"\nsessions = ["onnxruntime"]\nopset = 18\n'
GOOD = HEAD + "[variants.fp32]\n" + STAGES + 'judge = { basis = "numerical" }\n'
CALIBRATION = 'calibration = { method = "minmax", patients = 8, changed = 0.02 }\n'
EIGHT_BIT = '[variants.w8a8]\nstages = { detector = "w8a8", geometry = "fp32", members = "w8a8", ensemble = "fp32" }\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "my.toml"
    path.write_text(text)
    return path


def test_the_first_variant_is_the_default(tmp_path: Path) -> None:
    recipe = write(tmp_path, GOOD + EIGHT_BIT + 'judge = { basis = "statistical", margin = 0.01, agreement = 0.985 }\n' + CALIBRATION)
    assert load_target("web", recipe).precision == "fp32"
    other = load_target("web:w8a8", recipe)
    assert (other.precision, other.settings, other.ensemble) == ("w8a8", {"opset": 18}, "best")
    assert (other.judge.basis, other.judge.margin, other.judge.agreement) == ("statistical", 0.01, 0.985)
    assert other.stages == {"detector": "w8a8", "geometry": "fp32", "members": "w8a8", "ensemble": "fp32"}
    assert other.folder.name == "web"


def test_the_range_of_float16_is_asked_for_by_patients_and_a_share(tmp_path: Path) -> None:
    half = GOOD.replace('members = "fp32"', 'members = "fp16"')
    half = half.replace(
        'basis = "numerical" }', 'basis = "statistical", margin = 0.01, agreement = 0.985 }\nfloat16 = { patients = 4, limit = 0.5 }'
    )
    asked = load_target("web", write(tmp_path, half)).float16
    assert asked is not None
    assert (asked.patients, asked.limit) == (4, 0.5)
    for old, new in (("0.5", "0.0"), ("0.5", "1.5"), ("patients = 4", "patients = 0")):
        with pytest.raises(InputError, match=r"float16 is .*"):
            load_target("web", write(tmp_path, half.replace(old, new)))
    assert load_target("ios").float16 is not None


def test_a_variant_may_have_a_backend_of_its_own(tmp_path: Path) -> None:
    own = '[variants.litert-fp32]\nbackend = "litert"\nsessions = ["litert"]\n' + STAGES + 'judge = { basis = "numerical" }\n'
    recipe = write(tmp_path, GOOD + own)
    assert list_variants("android", recipe) == ["fp32", "litert-fp32"]
    first, other = (load_target(f"android{name}", recipe) for name in ("", ":litert-fp32"))
    assert (first.backend, first.sessions, first.settings) == ("onnx", ("onnxruntime",), {"opset": 18})
    assert (other.backend, other.sessions, other.settings, other.precision) == ("litert", ("litert",), {}, "litert-fp32")
    for old, new, message in (
        ("litert-fp32]", "fp32-too]", "the name of a variant is 'fp32-too'"),
        ('"litert"\nsessions = ["litert"]', '"litert"\nsessions = ["onnxruntime"]', "a session is 'onnxruntime'"),
        ('"litert"\nsessions = ["litert"]', '"litert"\nsessions = []', "'variants.litert-fp32.sessions' is empty"),
        ('sessions = ["litert"]\n', "", "key 'sessions' is missing in 'variants.litert-fp32'"),
        ('backend = "litert"', 'backend = "onnx"', "variants.litert-fp32.backend is 'onnx'"),
        ('backend = "litert"', 'backend = "litert"\nopset = 18', "unknown key 'opset' in 'variants.litert-fp32'"),
    ):
        with pytest.raises(InputError, match=message):
            load_target("android", write(tmp_path, GOOD + own.replace(old, new)))


def test_processors_hold_for_every_variant(tmp_path: Path) -> None:
    head = GOOD.replace("opset = 18\n", 'opset = 18\nprocessors = ["neon"]\n')
    own = '[variants.litert-fp32]\nbackend = "litert"\nsessions = ["litert"]\n' + STAGES + 'judge = { basis = "numerical" }\n'
    assert load_target("android:litert-fp32", write(tmp_path, head + own)).processors == ("neon",)
    other = own.replace("litert-fp32", "tensorrt-fp32").replace(
        '"litert"\nsessions = ["litert"]', '"tensorrt"\nsessions = ["tensorrt"]\nopset = 18'
    )
    assert load_target("android:tensorrt-fp32", write(tmp_path, GOOD + other)).processors == ()
    with pytest.raises(InputError, match=r"a processor of variants\.tensorrt-fp32 is 'neon'"):
        load_target("android", write(tmp_path, head + other))
    whole = head.replace('"onnx"', '"tensorrt"').replace('["onnxruntime"]', '["tensorrt"]')
    with pytest.raises(InputError, match="a processor is 'neon'"):
        load_target("jetson", write(tmp_path, whole))


def test_unknown_target_and_variant_name_the_choices() -> None:
    with pytest.raises(UsageError, match="'toaster'") as error:
        load_target("toaster")
    assert all(name in error.value.remedy for name in list_targets())
    with pytest.raises(UsageError, match="no variant 'int3'") as error:
        load_target("web:int3")
    assert "web:fp32" in error.value.remedy


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("opset = 18", "opset = 18\nspeed = 3", "unknown key 'speed'"),
        ("opset = 18\n", "", "key 'opset' is missing"),
        ('["onnxruntime"]', "[]", "'sessions' is empty"),
        ('["onnxruntime"]', '["abacus"]', "a session is 'abacus'"),
        ("opset = 18", 'opset = 18\nprocessors = ["z80"]', "a processor is 'z80'"),
        ('basis = "numerical" }', 'basis = "numerical" }\ncalibration = {}', "calibration' is set, but no stage has 8-bit activations"),
        (
            'basis = "numerical" }',
            'basis = "numerical" }\nfloat16 = { patients = 4, limit = 0.5 }',
            "float16' is set, but no stage has float16 activations",
        ),
        ('basis = "numerical" }', 'basis = "numerical" }\nbudget = { size = 3.0 }', "unknown key 'size'"),
        ('basis = "numerical" }', 'basis = "numerical" }\nbudget = { size_mb = true }', "'size_mb' in .* is True, expected a number$"),
        ('basis = "numerical" }', 'basis = "numerical" }\nbudget = { size_mb = nan }', "'size_mb' in .* is nan, expected a number$"),
        ('basis = "numerical" }', f'basis = "numerical" }}\nbudget = {{ size_mb = 1{"0" * 400} }}', "expected a number$"),
        ('basis = "numerical" }', 'basis = "numerical" }\nbudget = { size_mb = "40" }', "'size_mb' in .* is '40', expected a number$"),
        ('basis = "numerical" }', 'basis = "numerical" }\nbudget = { gain = 1.02 }', "budget.gain needs 8-bit stages"),
        ('basis = "numerical"', 'basis = "statistical", margin = 1, agreement = 0.985', "margin is 1, expected a fraction"),
        ('basis = "numerical" }', 'basis = "numerical" }\noptions = { speed = "high" }', "options is 'speed'"),
        ('basis = "numerical" }', 'basis = "numerical" }\noptions = { activations = "int3" }', "options.activations is 'int3'"),
        ("opset = 18", 'opset = "18"', "'opset' is '18', expected a whole number"),
        ("opset = 18", "opset = true", "expected a whole number"),
        ('"onnx"', '"tflite"', "backend is 'tflite'"),
        ("variants.fp32", "variants.fp33", "'fp33'"),
        ('members = "fp32"', 'members = "int4"', r"variants\.fp32\.stages\.members is 'int4'"),
        ("detector =", "detectors =", "unknown key 'detectors' in 'variants.fp32.stages'"),
        ('members = "fp32"', 'members = "fp16"', "numerical, but a stage is below fp32"),
        ('basis = "numerical"', 'basis = "hopeful"', "judge.basis is 'hopeful'"),
        ('basis = "numerical"', 'basis = "statistical", margin = 0.01', "key 'agreement' is missing"),
        ('basis = "numerical"', 'basis = "statistical", margin = 1.0, agreement = 0.985', "margin is 1.0"),
        ('basis = "numerical"', 'basis = "numerical", margin = 0.1', "unknown key 'margin'"),
        ("[variants.fp32]", "[variants.fp32", "not valid TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    recipe = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(InputError, match=message) as error:
        load_target("web", recipe)
    assert str(recipe) in error.value.message


def test_a_whole_number_is_a_number(tmp_path: Path) -> None:
    recipe = write(tmp_path, GOOD.replace('basis = "numerical" }', 'basis = "numerical" }\nbudget = { size_mb = 40, p50_ms = 20 }'))
    target = load_target("web", recipe)
    assert (target.size_mb, target.p50_ms) == (40, 20)


def test_a_missing_recipe_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such recipe"):
        load_target("web", tmp_path / "none.toml")
    with pytest.raises(InputError, match="'variants' is empty"):
        load_target("web", write(tmp_path, HEAD + "[variants]\n"))
