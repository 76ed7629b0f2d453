"""Classify folders of photos with Inception V3, and measure the accuracy.

from inception_cli import Classifier

for prediction in Classifier("demo")("photos"):
    print(prediction.path, prediction.labels, prediction.scores)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inception_cli.classifier import Classifier
    from inception_cli.predictions.prediction import Prediction

__version__ = "0.1.0"
__all__ = ["Classifier", "Prediction", "__version__"]


def __getattr__(name: str) -> object:
    """Import Classifier and Prediction when they are first used: torch takes seconds to import."""
    if name == "Classifier":
        from inception_cli.classifier import Classifier

        return Classifier
    if name == "Prediction":
        from inception_cli.predictions.prediction import Prediction

        return Prediction
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
