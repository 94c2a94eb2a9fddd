"""The archive keeps the contracts of a backend and of a session."""

from __future__ import annotations

import exported

from edgekit.testing import BackendContract, SessionContract


class TestExported(BackendContract):
    name, backend = "exported", exported


class TestExportedSession(SessionContract):
    name, backend, session = "exported", exported, "exported"
