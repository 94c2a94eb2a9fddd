"""Simulated films: a body and perhaps an implant as closed meshes, a cone beam through them, a film of it, and a folder of DICOM files.

::

    body ──┐                positioning ─┐
    metal ─┴► scene ─► imaging (beam ─► exposure ─► processing ─► framing, marks) ─► film ─► dicom ─► cohort
               ▲          geometry (meshes, thickness along rays)                                        ▲
             sites (what a hospital is like)                                   plan (who is in a cohort) ┘
"""
