"""The contracts of backends and sessions as pytest classes: whoever writes a module subclasses them, inside this package or outside.

::

    import archive
    from edgekit.testing import BackendContract, SessionContract

    class TestArchive(BackendContract):
        name, backend = "archive", archive

    class TestArchiveSession(SessionContract):
        name, backend, session = "archive", archive, "archive"

They make a run with random weights and films of noise (`edgekit.testing.tiny`), export it through `edgekit.bundle.export_bundle` with the
module itself, and check what `edgekit.backends.Backend` and `edgekit.sessions.SessionModule` promise. Importing this room imports pytest
and torch.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("edgekit.testing.contracts")  # before it is imported: a failure then shows the values

from edgekit.testing.contracts import BackendContract, SessionContract  # noqa: E402

__all__ = ["BackendContract", "SessionContract"]
