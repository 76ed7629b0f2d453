"""Made-up predictions and their report: names that a browser would execute, and known metrics."""

import io
from collections.abc import Callable, Iterable
from dataclasses import replace

from PIL import Image

from inception_cli.config import PRESETS, Classes, LoaderConfig, PixelConfig, Plan, RunConfig, Weights
from inception_cli.evaluation.evaluate import Evaluation, Result
from inception_cli.evaluation.label_order import Finding
from inception_cli.evaluation.labels import Labels
from inception_cli.evaluation.metrics import compute_metrics, confusion_matrix
from inception_cli.predictions.prediction import Prediction
from inception_cli.predictions.table import to_frame
from inception_cli.predictions.text import escape_bytes
from inception_cli.report.build import Description, Written, build_page
from inception_cli.report.heat_maps import Explain
from inception_cli.storage.store import Manifest, NetworkCounts

HOSTILE = (
    "<img src=x onerror=document.title='owned'>.jpg",
    "</script><script>document.title='owned'</script>.jpg",
    '"onmouseover="document.title=1" x=".jpg',
    "'quoted' & amp;.jpg",
    "new\nline\r.jpg",
    "\udcff\udc80 bytes.jpg",
    "\u2028line\u2029 paragraph\u202egpj.exe",
    "[bold red]rich[/] $title ${title} {{ title }} {% raw %}.jpg",
    "<!-- <![CDATA[ --> .jpg",
)
CLASSES = Classes(("apple", "<b onclick=alert(1)>pear</b>", "plum \u2028 'n' \"more\""))


def prediction(path: str, top1: int, confidence: float) -> Prediction:
    """Return a prediction of all three classes."""
    order = (top1, (top1 + 1) % 3, (top1 + 2) % 3)
    names = tuple(CLASSES.names[index] for index in order)
    return Prediction(path, "ok", order, names, (confidence, (1 - confidence) * 0.75, (1 - confidence) / 4))


def rows() -> list[Prediction]:
    """Return twelve photos of each class with confidence 0.4 to 0.95 and hostile names, and two failures."""
    names = [*HOSTILE, *(f"photo-{number:02}.jpg" for number in range(36 - len(HOSTILE)))]
    ok = [prediction(f"in/{name}", number % 3, 0.4 + 0.05 * (number // 3)) for number, name in enumerate(names)]
    corrupt = Prediction("in/<script>bad.jpg", "corrupt", error="damaged picture: <b>&</b>")
    return [*ok, corrupt, Prediction("in/gone.jpg", "missing", error="no such file")]


def evaluation(predictions: list[Prediction]) -> Evaluation:
    """Return metrics in which every fourth photo of a class is a mistake, so that recalls are 100, 60 and 75 %."""
    mistaken_for = (1, 2, 1)  # the label of the mistakes of each class
    sets = [(mistaken_for[row % 3] if row // 3 % 4 == 0 else row % 3,) for row in range(len(predictions))]
    labels = Labels.from_sets(CLASSES, "a <test>", "name", sets)
    readable = [replace(prediction, path=escape_bytes(prediction.path)) for prediction in predictions]
    table = to_frame(readable, 3)
    metrics = replace(compute_metrics(table, labels), notes=("a note & more",))
    finding, matrix = Finding(0, 100, "<otherwise>", "--label-format name"), confusion_matrix(table, labels)
    return Evaluation(manifest(), (Result(labels, metrics, finding, confusion_matrix=matrix),))


def manifest() -> Manifest:
    """Return the manifest of a run with hostile names of inputs and weights."""
    weights = Weights("<i>weights", "w.pth", "w.pth", "0" * 64, PRESETS["torchvision"], CLASSES, 77.294, 93.45)
    run = RunConfig(PixelConfig(PRESETS["torchvision"]), LoaderConfig(32), Plan(), 3, (weights,))
    counts = NetworkCounts(23_834_568, 5_713_216_096, 11_426_432_192, 5_745_177_632)
    return Manifest(("<b>in</b>\x1b",), "/", run, {"inception": "<s>1</s>"}, counts, images_per_s=12.5)


def picture(path: str) -> bytes:
    """Return a small JPEG, as a thumbnail is."""
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (40 * len(path) % 256, 120, 90)).save(file, "JPEG")
    return file.getvalue()


def page_of(
    predictions: Iterable[Prediction],
    evaluated: Evaluation | None = None,
    thumbnail: Callable[[str], bytes] = picture,
    link: Callable[[str], str] = lambda path: "",
    explain: Explain | None = None,
) -> Written:
    """Return the report of some predictions."""
    description = Description("By <Inception> V3.", {"Inputs": "a & b"})
    return build_page(predictions, description, evaluated, thumbnail, link, explain=explain)
