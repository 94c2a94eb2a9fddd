"""A photo of a screen: what a viewer shows, from where the phone looks, what light, lens, sensor and phone make of it.

::

    studies.csv ─► viewer ─► viewpoint ─► optics, glare ─► phone ─► snapshot ─► album
"""
