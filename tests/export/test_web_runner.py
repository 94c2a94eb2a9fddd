"""The web runner's check of a device: what is taken, refused and remembered."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from resealing import change_golden, tolerate

from edgekit.app.server import serve_site
from edgekit.app.site import MEDIA_TYPES, Page
from edgekit.contract import OUTPUTS
from edgekit.manifest import open_bundle

RUNNER = Path(__file__).parents[2] / "export" / "web" / "runner"

# -- in Node: choosing and decoding ----------------------------------------------------------------------------------------------


@pytest.fixture
def ask(node_path: str, tmp_path: Path) -> Callable[..., Any]:
    """Run the body of an asynchronous JavaScript function that may import the runner's modules; returns what it returns."""
    shutil.copytree(RUNNER, tmp_path / "runner")
    (tmp_path / "runner" / "package.json").write_text('{"type": "module"}')

    def ask(body: str, **values: Any) -> Any:
        code = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
        script = tmp_path / "ask.mjs"
        script.write_text(f"{code} const answer = await (async () => {{ {body} }})(); process.stdout.write(JSON.stringify(answer));")
        return json.loads(subprocess.run([node_path, script], capture_output=True, text=True, check=True, timeout=60).stdout)

    return ask


CHOOSE = """
    const { chooseWay, DisagreementError } = await import("./runner/ways.js");
    const tried = [];
    const attempt = async ({ name }) => {
        tried.push(name);
        const fate = FATES[name];
        if (fate === "disagrees") throw new DisagreementError("boxes is off by 9.0, accepted 4");
        if (fate) throw new RangeError(fate);
        return `opened ${name}`;
    };
    return chooseWay(Object.keys(FATES).map((name) => ({ name })), attempt).then(
        ({ way, opened, rejected }) => ({ tried, way: way.name, opened, rejected }),
        ({ name, message, rejected }) => ({ tried, name, message, rejected }));
"""


def test_the_first_way_that_agrees_is_taken(ask: Callable[..., Any]) -> None:
    assert ask(CHOOSE, FATES={"gpu": "", "cpu": ""}) == {"tried": ["gpu"], "way": "gpu", "opened": "opened gpu", "rejected": []}
    chosen = ask(CHOOSE, FATES={"npu": "no such device", "gpu": "disagrees", "cpu": "", "slow": ""})
    assert (chosen["tried"], chosen["way"]) == (["npu", "gpu", "cpu"], "cpu")
    assert chosen["rejected"] == [
        {"way": "npu", "reason": "no such device"},
        {"way": "gpu", "reason": "boxes is off by 9.0, accepted 4"},
    ]


def test_a_device_without_a_right_way_is_refused_with_every_reason(ask: Callable[..., Any]) -> None:
    refused = ask(CHOOSE, FATES={"gpu": "no such device", "cpu": "disagrees"})
    assert (refused["tried"], refused["name"]) == (["gpu", "cpu"], "DisagreementError")
    assert "say: gpu: no such device; cpu: boxes is off by 9.0, accepted 4. Update" in refused["message"]
    assert "use another device" in refused["message"]
    assert [each["way"] for each in refused["rejected"]] == ["gpu", "cpu"]
    unopened = ask(CHOOSE, FATES={"gpu": "no memory", "cpu": "no such device"})
    assert (unopened["name"], unopened["message"]) == ("RangeError", "no memory")  # nothing answered, so nothing disagreed


def write_png(pixels: np.ndarray, filters: list[int]) -> bytes:
    """Write an 8-bit grayscale PNG, row y with filter `filters[y]`: section 9.2 of the PNG specification, in numpy, in two IDAT chunks."""
    padded = np.pad(pixels.astype(int), ((1, 0), (1, 0)))
    left, above, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    distances = np.abs(np.stack([above - corner, left - corner, left + above - 2 * corner]))
    paeth = np.take_along_axis(np.stack([left, above, corner]), distances.argmin(axis=0)[None], 0)[0]
    predicted = np.stack([np.zeros_like(left), left, above, (left + above) // 2, paeth])
    rows = [bytes([f, *((pixels[y].astype(int) - predicted[f, y]) % 256).tolist()]) for y, f in enumerate(filters)]
    data = zlib.compress(b"".join(rows))
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tEXt", b"Comment\0a film"), (b"IDAT", data[:50]), (b"IDAT", data[50:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def test_a_golden_canvas_is_read_as_it_is_stored(ask: Callable[..., Any]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (25, 13), np.uint8)
    stored = write_png(noise, [y % 5 for y in range(25)])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored))), noise)  # Pillow agrees that this is such a PNG
    colour = io.BytesIO()
    Image.fromarray(noise).convert("RGB").save(colour, "PNG")
    answers = ask(
        """const { decodeGray } = await import("./runner/golden.js");
        const decode = (png) => decodeGray(Uint8Array.from(Buffer.from(png, "base64")));
        return Promise.all(PNGS.map((png) => decode(png).then((pixels) => [...pixels], ({ message }) => message)));""",
        PNGS=[base64.b64encode(png).decode() for png in (stored, colour.getvalue())],
    )
    assert answers[0] == noise.ravel().tolist()
    assert answers[1] == "a golden canvas is not an 8-bit grayscale PNG"


def test_golden_answers_are_compared_as_the_manifest_says(ask: Callable[..., Any]) -> None:
    """A tolerance of null compares nothing; `of_found` compares the rows of the films on which something was to be found."""
    described = {
        "found": {"shape": [2], "tolerance": 0, "of_found": False},
        "boxes": {"shape": [2, 4], "tolerance": 0.5, "of_found": True},
        "box_scores": {"shape": [2], "tolerance": None, "of_found": False},
        "unfamiliarity": {"shape": [1], "tolerance": 0.1, "of_found": False},
    }
    expected = {"found": [1, 0], "boxes": [[1, 2, 3, 4], [5, 6, 7, 8]], "box_scores": [0.9, 0.1], "unfamiliarity": [0.25]}
    answer = {"found": [1, 0], "boxes": [1, 2, 3, 4.25, 50, 60, 70, 80], "box_scores": [0, 0], "unfamiliarity": [0.25]}

    def compare(**changes: Any) -> Any:
        return ask(
            """const { compareAnswers } = await import("./runner/golden.js");
            const plain = (key, value) => (typeof value === "number" && !Number.isFinite(value) ? String(value) : value);
            const outputs = Object.fromEntries(Object.entries(ANSWER).map(([k, v]) => [k, v.map((each) => each ?? NaN)]));
            const compared = await compareAnswers([{ canvases: {}, outputs: EXPECTED }], async () => ({ outputs }), DESCRIBED);
            return JSON.parse(JSON.stringify(compared, plain));""",
            EXPECTED=expected,
            ANSWER={**answer, **changes},
            DESCRIBED=described,
        )

    assert compare() == {
        "passed": True,
        "checks": [
            {"output": "found", "error": 0, "tolerance": 0},
            {"output": "boxes", "error": 0.25, "tolerance": 0.5},
            {"output": "unfamiliarity", "error": 0, "tolerance": 0.1},
        ],
    }
    assert not compare(found=[1, 1])["passed"]
    assert not compare(boxes=[3, 2, 3, 4, 0, 0, 0, 0])["passed"]
    broken = compare(unfamiliarity=[None])
    assert (broken["passed"], broken["checks"][2]["error"]) == (False, "Infinity")


# -- in Chromium: opening -------------------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(web_bundle: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return shutil.copytree(web_bundle, tmp_path / "bundle")


@pytest.fixture
def pages(bundle: Path, web_runtime: dict[str, dict[str, Path]]) -> dict[str, Page]:
    """A site with the bundle, the runtimes and an empty page; read at each request."""
    files = {f"/{backend}/{name}": file for backend, files in web_runtime.items() for name, file in files.items()}
    pages = {path: make_page(path, file.read_bytes()) for path, file in files.items()}
    pages["/index.html"] = make_page("/index.html", b"<!doctype html><title>runner</title>")
    publish(pages, bundle)
    return pages


SPOILT = """
    // A runtime whose answers are off by 0.2 as soon as it runs in the way `wrong`, and which may be of another version.
    import * as genuine from "./genuine.js";
    export const { NAME, FILES, listWays } = genuine;
    export const VERSION = globalThis.version ?? genuine.VERSION;
    export async function start(folder, way) {
        const { load } = await genuine.start(folder, way);
        return {
            async load(content) {
                const graph = await load(content);
                const run = async (...given) => {
                    const found = await graph.run(...given);
                    if (found.probabilities && way.name === globalThis.wrong) found.probabilities.data[0] += 0.2;
                    return found;
                };
                return { run, close: () => graph.close() };
            },
        };
    }
"""


def publish(pages: dict[str, Page], bundle: Path) -> None:
    """Serve the bundle as its folder is now."""
    for name in ("manifest.json", *open_bundle(bundle).manifest.files):
        pages[f"/bundle/{name}"] = make_page(name, (bundle / name).read_bytes())
    for backend in ("onnx", "litert"):
        if (runtime := pages.get(f"/bundle/runner/{backend}/runtime.js")) is not None:
            pages[f"/bundle/runner/{backend}/genuine.js"] = runtime
            pages[f"/bundle/runner/{backend}/runtime.js"] = make_page("runtime.js", SPOILT.encode())


def make_page(path: str, content: bytes) -> Page:
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    return Page(content, MEDIA_TYPES.get(Path(path).suffix, "application/octet-stream"), digest)


def withhold_golden(pages: dict[str, Page]) -> None:
    """From now on, who checks the golden vectors finds none."""
    for path in [path for path in pages if path.startswith("/bundle/golden/")]:
        del pages[path]


def alter_golden(bundle: Path) -> None:
    """Expect another answer, and seal that, as someone who means it would."""
    change_golden(bundle, -1, "probabilities", 0, by=0.5)


OPEN = """async ({ threads, wrong, version, runtime }) => {
    Object.assign(globalThis, { wrong, version: version ?? undefined });
    const { openPipeline } = await import("/bundle/runner/edgekit.js");
    try {
        globalThis.pipeline = await openPipeline("/bundle/", { runtime, threads });
        const { way, rejected, isRemembered, timings } = pipeline;
        const { outputs } = await pipeline.infer({ ap: new Uint8Array(pipeline.side ** 2).fill(90) });
        return { way, rejected, isRemembered, checkMs: timings.checkMs, probabilities: [...outputs.probabilities] };
    } catch ({ name, message }) {
        return { name, message };
    }
}"""


@pytest.fixture
def visit(chromium: Any, pages: dict[str, Page]) -> Iterator[Callable[..., dict[str, Any]]]:
    """Open the bundle in a new page of one browser; `visit.page` is the last one."""
    with serve_site(pages, "127.0.0.1", 0) as port:
        context = chromium.new_context()

        def visit(
            threads: int = 1, wrong: str = "", version: str | None = None, script: str = "", runtime: str = "/onnx/"
        ) -> dict[str, Any]:
            visit.page = page = context.new_page()
            page.add_init_script(script)
            page.goto(f"http://127.0.0.1:{port}/index.html")
            return dict(page.evaluate(OPEN, {"threads": threads, "wrong": wrong, "version": version, "runtime": runtime}))

        yield visit
        context.close()


@pytest.mark.browser
def test_a_device_that_agrees_is_checked_once(visit: Callable[..., dict[str, Any]], pages: dict[str, Page], bundle: Path) -> None:
    first = visit()
    assert (first["way"], first["rejected"], first["isRemembered"]) == ("wasm, 1 thread", [], False)
    assert first["checkMs"] > 0
    withhold_golden(pages)
    second = visit()
    assert (second["isRemembered"], second["checkMs"]) == (True, 0)
    assert second["probabilities"] == first["probabilities"]
    for changed in (
        {"threads": 2},
        {"version": "9.9.9"},
        {"script": "Object.defineProperty(Navigator.prototype, 'userAgent', { value: 'another' })"},
        {"script": "Object.defineProperty(Navigator.prototype, 'hardwareConcurrency', { value: 77 })"},
    ):
        assert "golden.json is missing" in visit(**changed)["message"], changed
    alter_golden(bundle)
    publish(pages, bundle)
    withhold_golden(pages)
    assert "golden.json is missing" in visit()["message"]


@pytest.mark.browser
def test_a_bundle_with_other_golden_answers_is_refused_each_time(
    visit: Callable[..., dict[str, Any]], pages: dict[str, Page], bundle: Path, web_bundle: Path
) -> None:
    assert "way" in visit()
    alter_golden(bundle)
    publish(pages, bundle)
    for _ in range(2):
        refused = visit()
        assert refused["name"] == "DisagreementError"
        assert "wasm, 1 thread: probabilities is off by 0.50, accepted 0.0001. Update" in refused["message"]
    publish(pages, web_bundle)
    assert "way" in visit()


@pytest.mark.browser
def test_a_tolerance_that_was_changed_is_checked_anew(visit: Callable[..., dict[str, Any]], pages: dict[str, Page], bundle: Path) -> None:
    assert not visit()["isRemembered"]
    change_golden(bundle, -1, "probabilities", 0, by=0.5)
    tolerate(bundle, "probabilities", None)
    publish(pages, bundle)
    assert not visit()["isRemembered"]
    tolerate(bundle, "probabilities", 0.1)
    publish(pages, bundle)
    assert "probabilities is off by 0.50, accepted 0.1" in visit()["message"]


@pytest.mark.browser
def test_threads_that_answer_otherwise_give_way_to_one(visit: Callable[..., dict[str, Any]], pages: dict[str, Page]) -> None:
    plain = visit(threads=1)
    chosen = visit(threads=2, wrong="wasm, 2 threads")
    assert chosen["way"] == "wasm, 1 thread"
    (rejection,) = chosen["rejected"]
    assert rejection["way"] == "wasm, 2 threads"
    assert rejection["reason"] == "probabilities is off by 0.20, accepted 0.0001"
    assert chosen["probabilities"] == plain["probabilities"]
    withhold_golden(pages)
    again = visit(threads=2, wrong="wasm, 2 threads")
    assert (again["way"], again["rejected"], again["isRemembered"]) == ("wasm, 1 thread", [rejection], True)
    assert again["probabilities"] == plain["probabilities"]


@pytest.mark.browser
def test_a_self_test_that_fails_later_is_no_longer_remembered_as_passed(visit: Callable[..., dict[str, Any]]) -> None:
    assert not visit()["isRemembered"]
    assert visit()["isRemembered"]
    found = visit.page.evaluate("async () => { globalThis.wrong = pipeline.way; return await pipeline.selfTest(); }")
    assert not found["passed"]
    assert [check["output"] for check in found["checks"]] == list(OUTPUTS)
    assert [check["output"] for check in found["checks"] if check["error"] > check["tolerance"]] == ["probabilities"]
    assert not visit()["isRemembered"]


@pytest.mark.browser
def test_a_browser_that_keeps_nothing_checks_each_time(visit: Callable[..., dict[str, Any]]) -> None:
    refuse = "CacheStorage.prototype.open = async () => { throw new DOMException('not in private windows', 'SecurityError') }"
    assert not visit(script=refuse)["isRemembered"]
    second = visit(script=refuse)
    assert (second["way"], second["isRemembered"]) == ("wasm, 1 thread", False)


# -- in Chromium: LiteRT.js ------------------------------------------------------------------------------------------------------


WITHOUT_RELAXED_SIMD = "const validate = WebAssembly.validate; WebAssembly.validate = (module) => module.length !== 36 && validate(module);"
"""A browser that has all but the instruction that the runner asks for."""


@pytest.mark.browser
def test_litert_takes_the_build_that_the_browser_has(
    visit: Callable[..., dict[str, Any]], pages: dict[str, Page], web_litert_bundle: Path
) -> None:
    publish(pages, web_litert_bundle)
    for threads, script, way, rejected in (
        (2, "", "wasm, 2 threads", []),
        (1, "", "wasm, 1 thread", []),
        (2, WITHOUT_RELAXED_SIMD, "wasm, 1 thread, compat", ["wasm, 2 threads", "wasm, 1 thread"]),
    ):
        found = visit(threads=threads, script=script, runtime="/litert/")
        assert found["way"] == way, found
        assert [each["way"] for each in found["rejected"]] == rejected
        assert all(each["reason"] == "this browser has no relaxed SIMD" for each in found["rejected"])
        loaded = visit.page.evaluate("performance.getEntriesByType('resource').map(({ name }) => new URL(name).pathname)")
        builds = {Path(name).name for name in loaded if name.endswith(".wasm")}
        assert builds == {f"litert_wasm_{'compat_' if 'compat' in way else 'threaded_' if threads > 1 else ''}internal.wasm"}
        assert {Path(name).name for name in visit.page.evaluate("pipeline.runtime.files")} > builds


@pytest.mark.browser
def test_litert_gives_way_to_the_next_build_that_answers_rightly(
    visit: Callable[..., dict[str, Any]], pages: dict[str, Page], web_litert_bundle: Path
) -> None:
    publish(pages, web_litert_bundle)
    found = visit(threads=2, wrong="wasm, 2 threads", runtime="/litert/")
    assert found["way"] == "wasm, 1 thread"
    assert [each["way"] for each in found["rejected"]] == ["wasm, 2 threads"]
    assert "probabilities is off by 0.20" in found["rejected"][0]["reason"]


@pytest.mark.browser
@pytest.mark.parametrize(
    ("fixture", "runtime", "name"),
    [
        ("web_bundle", "onnx", "ort-wasm-simd-threaded.wasm"),
        ("web_bundle", "onnx", "ort.wasm.bundle.min.mjs"),
        ("web_litert_bundle", "litert", "litert_wasm_internal.wasm"),
        ("web_litert_bundle", "litert", "litert_wasm_internal.js"),
        ("web_litert_bundle", "litert", "litert.js"),
    ],
)
def test_a_runtime_that_was_changed_is_not_started(
    fixture: str, runtime: str, name: str, visit: Callable[..., dict[str, Any]], pages: dict[str, Page], request: pytest.FixtureRequest
) -> None:
    publish(pages, request.getfixturevalue(fixture))
    path = f"/{runtime}/{name}"
    pages[path] = make_page(path, pages[path].read() + b" ")
    refused = visit(runtime=f"/{runtime}/")
    assert refused["name"] == "RuntimeFileError"
    assert refused["message"].startswith(f"{path} is not the file that it should be (its sha256 differs): serve the files of npm's ")
    del pages[path]
    refused = visit(runtime=f"/{runtime}/")
    assert refused["message"].startswith(f"{path} is missing (HTTP 404): serve the files of npm's ")


@pytest.mark.browser
def test_a_device_without_memory_says_so(visit: Callable[..., dict[str, Any]], pages: dict[str, Page], web_litert_bundle: Path) -> None:
    publish(pages, web_litert_bundle)
    refuse = "throw new RangeError('could not allocate memory');"
    refuse = f"WebAssembly.Memory = function () {{ {refuse} }}; WebAssembly.instantiate = async () => {{ {refuse} }};"
    for threads in (1, 2):
        refused = visit(threads=threads, script=refuse, runtime="/litert/")
        assert refused["name"] == "RangeError", refused
        assert "memory" in refused["message"]


def test_the_runner_names_the_files_that_npm_brings(ask: Callable[..., Any], web_runtime: dict[str, dict[str, Path]]) -> None:
    for backend, files in web_runtime.items():
        said = ask(f'return (await import("./runner/{backend}/runtime.js")).FILES;')
        assert said == {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
