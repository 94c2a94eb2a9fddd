"""Simulated films: implants and anatomy as closed meshes, a cone beam through them, a detector, and a folder of DICOM files.

::

    implants ─ construct ┐
    anatomy ─────────────┴► scene ─► beam (projector, materials) ─► detector ─► processing ─► dicom ─► cohort
"""
