"""What a bundle's own runner answers with: it follows from the backend that made the bundle."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from edgekit.backends import BACKENDS
from edgekit.errors import InputError, MissingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgekit.backends import Backend
    from edgekit.types import Bundle

COMMON = {"numpy": "numpy", "PIL": "pillow"}
"""What every runner imports, by the name of the module, and the package that brings it."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The runtime of emulated bundles.

    Attributes
    ----------
    session
        What bundles and commands call it.
    package
        The package that answers.
    modules
        All that a runner imports for it, `COMMON` too, and the package that brings each.
    extras
        Install extras that bring these packages.
    """

    session: str
    package: str
    modules: Mapping[str, str]
    extras: tuple[str, ...]


def find_session(bundle: Bundle) -> str:
    """Return the session that the bundle's runner answers in.

    Raises
    ------
    InputError
        It answers on no CPU.
    """
    return _find_runtime(bundle).session


def find_runtime(bundle: Bundle) -> Runtime:
    """Return what the bundle's runner answers with.

    Raises
    ------
    InputError
        It answers on no CPU.
    MissingError
        It is not installed: other processors are given this environment's version.
    """
    runtime = _find_runtime(bundle)
    if missing := sorted(set(runtime.modules.values()) - list_versions(runtime.modules.values()).keys()):
        extras = f"[{','.join(runtime.extras)}]" if runtime.extras else ""
        raise MissingError(
            f"{', '.join(missing)}: not installed, and this bundle's runner answers with it", f"pip install 'edgekit-imaging{extras}'"
        )
    return runtime


def list_runtimes() -> list[Runtime]:
    """Return the runtimes of all emulated backends, those that are installed here."""
    found = [_read_runtime(backend) for backend in BACKENDS.values() if backend.EMULATED]
    return [runtime for runtime in found if list_versions([runtime.package])]


def list_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return this environment's version of each of `packages` that it has."""
    versions = {}
    for name in dict.fromkeys(packages):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _find_runtime(bundle: Bundle) -> Runtime:
    backend = BACKENDS.get(bundle.manifest.backend)
    if backend is None or not backend.EMULATED:
        raise InputError(f"{bundle.folder} was made for {bundle.manifest.target}: its runner answers on no CPU", "name another bundle")
    return _read_runtime(backend)


def _read_runtime(backend: Backend) -> Runtime:
    session, module = next(iter(backend.SESSIONS.items()))
    imports = module.ABOUT.runner_imports
    return Runtime(session, next(iter(imports.values())), {**COMMON, **imports}, module.ABOUT.extras)
