from edgekit.errors import EdgekitError as EdgekitError
from edgekit.evaluation.study import score_table as score
from edgekit.inference import Predictor as Predictor
from edgekit.manifest import open_bundle as open_bundle
from edgekit.radiograph import read_radiograph as read_film
from edgekit.sessions.torch import open_run as open_run
from edgekit.types import Bundle as Bundle
from edgekit.types import Prediction as Prediction
from edgekit.types import Radiograph as Radiograph

__version__: str
__all__ = [
    "Bundle",
    "EdgekitError",
    "Prediction",
    "Predictor",
    "Radiograph",
    "__version__",
    "open_bundle",
    "open_run",
    "read_film",
    "score",
]
