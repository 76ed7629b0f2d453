"""Made-up rows and their report: names that a page would obey, scores that are known."""

import io
from array import array
from collections.abc import Callable, Iterable
from itertools import accumulate

from PIL import Image

from inception_cli.results.classes import Classes
from inception_cli.results.columns import Columns
from inception_cli.results.report import About, Written, report
from inception_cli.results.rows import Prediction
from inception_cli.results.scores import score
from inception_cli.results.sections import Judgement, Line
from inception_cli.results.truth import NONE, Truth

HOSTILE = (
    "<img src=x onerror=document.title='owned'>.jpg",
    "</script><script>document.title='owned'</script>.jpg",
    '"onmouseover="document.title=1" x=".jpg',
    "'quoted' & amp;.jpg",
    "new\nline\r.jpg",
    "\udcff\udc80 bytes.jpg",
    "\u2028line\u2029 paragraph\u202egpj.exe",
    "[bold red]rich[/] $title ${title}.jpg",
    "<!-- <![CDATA[ --> .jpg",
)
CLASSES = Classes(("apple", "<b onclick=alert(1)>pear</b>", "plum \u2028 'n' \"more\""))


def prediction(path: str, best: int, sure: float) -> Prediction:
    """A row that is ok, with all three classes."""
    order = (best, (best + 1) % 3, (best + 2) % 3)
    return Prediction(
        path, "ok", order, tuple(CLASSES.names[at] for at in order), (sure, (1 - sure) * 0.75, (1 - sure) / 4)
    )


def rows() -> list[Prediction]:
    """Twelve photos a class, surer and surer from 0.4 to 0.95, the hostile names among them; two that failed."""
    names = [*HOSTILE, *(f"photo-{number:02}.jpg" for number in range(36 - len(HOSTILE)))]
    good = [prediction(f"in/{name}", number % 3, 0.4 + 0.05 * (number // 3)) for number, name in enumerate(names)]
    bad = Prediction("in/<script>bad.jpg", "corrupt", error="damaged picture: <b>&</b>")
    return [*good, bad, Prediction("in/gone.jpg", "missing", error="no such file")]


def judgement(some: list[Prediction]) -> Judgement:
    """Of every four photos of a class the first is labelled otherwise, so that recalls are 100, 60 and 75 %."""
    labelled = (1, 2, 1)  # the mistakes of each class
    answers = [(labelled[number % 3] if number // 3 % 4 == 0 else number % 3,) for number in range(len(some))]
    offsets = array("q", accumulate(map(len, answers), initial=0))
    truth = Truth(CLASSES, "a <test>", "name", offsets, array("i", [at for (at,) in answers]), NONE, NONE, NONE)
    scores = score(Columns.of(some, 3), truth)
    lines = (
        Line("measured", scores.top1, scores.top5, scores.top1_ci, scores.top5_ci, 23_834_568, 5_745_177_632),
        Line("published (<i>weights</i>)", 77.294, 93.45),
    )
    return Judgement(truth, scores, lines, ("a note & more",), "0 % as given; 100 % if <otherwise>")


def picture(path: str) -> bytes:
    """A small JPEG, as a thumbnail is."""
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (40 * len(path) % 256, 120, 90)).save(file, "JPEG")
    return file.getvalue()


def written(
    some: Iterable[Prediction], judged: Judgement | None = None, thumbnail: Callable[[str], bytes] = picture
) -> Written:
    """The report of some rows."""
    return report(some, judged, About("By <Inception> V3.", {"Photos": "a & b"}), thumbnail)
