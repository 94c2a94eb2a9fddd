"""Other processors than this machine's: a bundle is judged as they would answer, executed under ``qemu-user``.

There is no second way to a verdict: a pack of canvases goes in, ``outputs.npz`` comes back through the bundle's own ``runner/run.py``, and
`edgekit.parity.judge_recording` decides, as for any device::

                   runtimes: what the bundle's backend has its runner import
                                     ▼
    CPUS (edgekit.processors) ─► machines: interpreter and packages ◄─ arm64: laid out once, by `edgekit emulator arm64`
                                     │ probe: is it really that processor?
    films ─► packs: chunks ─► answers: runner/run.py, a process a chunk, kept until the verdict stands ─► judging: the verdict
"""
