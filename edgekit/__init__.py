"""edgekit: put a multi-model medical imaging pipeline on phones, Jetsons and desktop GPUs, and prove it still answers right."""

__version__ = "0.1.0"
