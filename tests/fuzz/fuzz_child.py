"""One process that fuzzes one target: by hypothesis the same cases always, or by atheris on the trail of new code.

A codec that crashes takes this process with it and not the tests; ``WORK/case`` then holds the file that did it.

    python tests/fuzz/fuzz_child.py TARGET WORK --cases N [--explore SEED]
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import sys
from pathlib import Path
from random import Random

GUIDED = ("edgekit", "pydicom", "PIL", "tomllib", "json", "safetensors")
"""Packages whose code guides atheris: of all that reads a file, what is Python."""
READERS = {
    "dicom": ("edgekit.radiograph.dicom", "pydicom.filereader"),
    "png": ("edgekit.radiograph.picture", "PIL.PngImagePlugin"),
    "jpeg": ("edgekit.radiograph.picture", "PIL.JpegImagePlugin"),
    "studies": ("edgekit.studies", "edgekit.tables"),
    "predictions": ("edgekit.evaluation.predictions", "edgekit.tables"),
    "manifest": ("edgekit.manifest", "json.decoder"),
    "recipe": ("edgekit.targets", "tomllib"),
    "config": ("edgekit.training.config", "tomllib"),
    "weights": ("edgekit.models.runfolder", "safetensors.torch"),
    "run": ("edgekit.models.runfolder", "json.decoder"),
}
"""Modules of `GUIDED` that are imported before the first case, because what is imported later does not guide."""


def main() -> int:
    """Fuzz one target; the exit code is 1 where hypothesis found a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("work", type=Path)
    parser.add_argument("--cases", type=int, required=True)
    parser.add_argument("--explore", type=int, help="let atheris explore, from this seed on")
    arguments = parser.parse_args()
    faulthandler.enable()
    if arguments.explore is not None:
        explore(arguments.target, arguments.work, arguments.cases, arguments.explore)
        return 0
    return check(arguments.target, arguments.work, arguments.cases)


def check(name: str, work: Path, cases: int) -> int:
    """Try the cases that hypothesis makes, and print the smallest that goes wrong."""
    from fuzz_targets import TARGETS, make_case
    from fuzz_watch import Watch, limit_memory
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.strategies import integers, lists, sampled_from

    target = TARGETS[name]
    watch, seeds = Watch(target, work), target.seeds()
    limit_memory()

    @settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(sampled_from(sorted(seeds)), lists(integers(0, (1 << 64) - 1), min_size=1, max_size=4))
    def try_one(seed: str, steps: list[int]) -> None:
        finding = watch.try_case(make_case(seeds, target.mutation, seed, steps))
        assert finding is None, f"{finding.what}\nthe case: make_case(seeds, mutation, {seed!r}, {steps})\n{finding.details}"

    try:
        try_one()
    except AssertionError as error:
        print(error)
        return 1
    return 0


def explore(name: str, work: Path, cases: int, seed: int) -> None:
    """Let atheris try `cases`, starting from the seeds and from what earlier runs found new code with; faults are kept, and it goes on."""
    import atheris

    with atheris.instrument_imports(include=list(GUIDED), enable_loader_override=False):
        for module in READERS[name]:
            importlib.import_module(module)
        from fuzz_targets import TARGETS, make_case
    from fuzz_watch import Watch, limit_memory

    target = TARGETS[name]
    watch, seeds = Watch(target, work), target.seeds()
    limit_memory()
    corpus = work / "corpus"
    corpus.mkdir(exist_ok=True)
    for seed_name, content in seeds.items():
        (corpus / seed_name).write_bytes(content)

    def mutate(content: bytes, most: int, number: int) -> bytes:
        random = Random(number)
        if random.random() < 0.4:  # what is broken many times over is refused at once
            content = seeds[random.choice(sorted(seeds))]
        for _ in range(random.choice((1, 1, 2, 3))):
            content = make_case({**seeds, "": content}, target.mutation, "", [random.getrandbits(64)])
        return content[:most]

    def try_one(content: bytes) -> None:
        watch.try_case(content)

    options = [
        f"-runs={cases}",
        f"-seed={seed}",
        f"-artifact_prefix={work}/",
        "-max_len=65536",
        "-timeout=3600",
        "-rss_limit_mb=0",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], try_one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
