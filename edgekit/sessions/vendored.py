"""What browsers load, of npm's packages: ``npm ci`` lays it into ``vendor/`` of the phone app, and every page is served from there."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import MissingError

RUNTIMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "onnx": ("onnxruntime-web", ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")),
    "litert": (
        "litert",
        (
            "litert.js",
            "wasm-utils.js",
            *(f"litert_wasm_{build}internal.{kind}" for build in ("", "compat_", "threaded_") for kind in ("js", "wasm")),
        ),
    ),
}
"""By backend: the folder of the runtime that opens its files, and what the web runner may load of it."""

CODECS = "dcmjs-native-codecs.wasm"
"""What decodes compressed DICOM films in the phone app."""


def find_app() -> Path:
    """Return the phone app's folder: inside an installed package, else in the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_app"
    return installed if installed.is_dir() else package.parent / "sample_app"


def find_runtime(backend: str) -> dict[str, Path]:
    """Return the files of the runtime that opens a backend's bundles in a browser, by name.

    Raises
    ------
    MissingError
        One is not there.
    """
    folder, names = RUNTIMES[backend]
    return _find(folder, names)


def find_codecs() -> Path:
    """Return the file `CODECS` of npm's dcmjs-codecs.

    Raises
    ------
    MissingError
        It is not there.
    """
    return _find("dcmjs-codecs", (CODECS,))[CODECS]


def _find(name: str, files: tuple[str, ...]) -> dict[str, Path]:
    app = find_app()
    folder = app / "vendor" / name
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise MissingError(f"{name} is not in {folder}: {missing[0]} is missing", f"npm ci --prefix {app}")
    return {file: folder / file for file in files}
