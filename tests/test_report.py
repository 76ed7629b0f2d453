"""The HTML report: its counts and samples for any number of rows, the escaping of names, and the command."""

import base64
import csv
import json
import random
import re
import shlex
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reported import CLASSES, HOSTILE, evaluation, manifest, page_of, picture, prediction, rows
from running import Inception, code_of
from trained import training

from inception_cli.cli.console import print_report, print_report_hint
from inception_cli.config import Classes, Thresholds
from inception_cli.errors import InceptionError
from inception_cli.evaluation.confusion_matrix import ConfusionMatrix
from inception_cli.evaluation.decisions import Answered, DecisionMetrics
from inception_cli.evaluation.metrics import Bin
from inception_cli.images.thumbnail import SIDE, thumbnail
from inception_cli.predictions.decision import Decision
from inception_cli.predictions.formats import csv_header, to_csv
from inception_cli.predictions.prediction import Prediction
from inception_cli.predictions.text import harmless
from inception_cli.report import build, plots, samples
from inception_cli.report.build import build_page, describe, file_link, write_report
from inception_cli.report.matrix import matrix_table
from inception_cli.report.samples import collect_samples
from inception_cli.report.training import write_training_report


class Parsed(HTMLParser):
    """A parsed page: its elements with their attributes, its text, its scripts."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem is None:
            self.text += data


def test_names_of_files_and_classes_are_escaped() -> None:
    html = page_of(rows(), evaluation(rows())).page
    parsed = Parsed(html)

    tags = Counter(tag for tag, _ in parsed.elements)
    assert (tags["script"], tags["b"], tags["i"]) == (2, 1, 0)  # the b is the value of the slider
    assert {name for _, attributes in parsed.elements for name in attributes if name.startswith("on")} == set()
    titles = {attributes.get("title") for tag, attributes in parsed.elements if tag == "button"}
    assert {harmless(f"in/{name}") for name in HOSTILE} <= titles
    assert HOSTILE[0] in parsed.text
    assert f"labelled {harmless(CLASSES.names[2])}" in parsed.text
    assert "\\udcff" not in parsed.text
    assert "\\xff\\x80 bytes.jpg" in parsed.text
    assert [char for char in html.decode() if char in "\u2028\u2029\u202e\r\0"] == []


def test_names_in_the_json_data_cannot_end_the_script_element() -> None:
    data, script = Parsed(page_of(rows(), evaluation(rows())).page).scripts

    assert "<" not in data
    assert data.isascii()
    assert json.loads(data)["classes"]["1"] == CLASSES.names[1]
    assert {path for path, *_ in json.loads(data)["photos"].values()} == {
        harmless(row.path) for row in rows() if row.status == "ok"
    }
    assert script.startswith('"use strict"')


def test_the_page_links_to_nothing_outside_itself() -> None:
    parsed = Parsed(page_of(rows(), evaluation(rows())).page)

    names = ("src", "href", "action", "srcset", "data", "poster", "xlink:href")
    links = [value or "" for _, attributes in parsed.elements for name, value in attributes.items() if name in names]
    assert links
    assert [link for link in links if not link.startswith(("#", "data:"))] == []
    policy = next(each["content"] for tag, each in parsed.elements if tag == "meta" and "http-equiv" in each)
    assert policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_ids_in_the_page_are_unique() -> None:
    ids = Counter(each["id"] for _, each in Parsed(page_of(rows(), evaluation(rows())).page).elements if "id" in each)

    assert ids["gallery"] == 1
    assert [name for name, number in ids.items() if number > 1] == []


def test_files_without_a_prediction_are_listed_with_their_reasons() -> None:
    text = Parsed(page_of(rows()).page).text

    assert "2 files without a prediction: 1 corrupt, 1 missing." in text
    assert "in/<script>bad.jpg" in text
    assert "damaged picture: <b>&</b>" in text


def test_counts_and_samples_are_those_of_the_rows() -> None:
    found = collect_samples(rows(), evaluation(rows()).results[0].labels, [(1, 0)])

    assert (found.rows, found.ok, dict(found.classes)) == (38, 36, {0: 12, 1: 12, 2: 12})
    assert sum(found.confidence.values()) == 36
    assert sum(found.by_confidence(False)) == 9
    scores = sorted(row.scores[0] for row in rows() if row.classes)
    assert [sample.prediction.scores[0] for sample in found.least_confident] == scores
    assert found.confident == sum(score >= 0.5 for score in scores) == 30
    assert [sample.correct for sample in found.mistakes] == [False] * 9
    assert found.mistakes[0].prediction.scores[0] == pytest.approx(0.8)
    assert [sample.prediction.classes[0] for sample in found.confused[1, 0]] == [0, 0, 0]
    assert [sample.labels for sample in found.confused[1, 0]] == [(1,)] * 3


def test_a_score_of_one_is_in_the_last_bin() -> None:
    assert dict(collect_samples([prediction("a", 0, 1.0)]).confidence) == {(samples.BINS - 1, None): 1}


def test_the_gallery_is_a_random_sample_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "GALLERY", 60)
    sizes = (5, 500, 3000)
    some = [prediction(str(number), top1, 0.5) for top1, size in enumerate(sizes) for number in range(size)]
    random.Random(1).shuffle(some)

    found = collect_samples(some)

    kept = {top1: len(group) for top1, group in found.gallery.items()}
    assert kept[0] == 5
    assert kept[1] == kept[2] == found.per_class == 27
    # In a uniform sample, the mean of 27 of 3000 numbers is within four standard errors of the middle.
    numbers = [int(sample.prediction.path) for sample in found.gallery[2]]
    assert abs(sum(numbers) / 27 - 1500) < 4 * 3000 / (12 * 27) ** 0.5


def test_with_decisions_the_gallery_is_in_the_order_of_the_scores_that_it_shows() -> None:
    scores = ((0.38, 0.93), (0.9, 0.95), (0.5, 0.6))  # of the top-1 class and of the label above it
    some = [
        replace(prediction(str(top1), 0, top1), decision=Decision("dog", label, "rollup")) for top1, label in scores
    ]

    group = page_of(some).page.decode().split('<div class="group"')[1].split("</section>")[0]

    shown = re.findall(r'class="score">([0-9.]+) %', group)
    assert shown == ["95.0", "93.0", "60.0"]


@pytest.mark.parametrize("classes", [1, 3, 50])
def test_the_gallery_never_holds_more_than_its_limit(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "GALLERY", 20)
    some = [Prediction(str(number), "ok", (number % classes,), ("x",), (0.5,)) for number in range(1000)]

    found = collect_samples(some)

    assert 18 <= sum(map(len, found.gallery.values())) <= 20
    assert max(map(len, found.gallery.values())) <= max(1, 20 // classes)


def test_at_most_two_thousand_photos_are_decoded_and_the_page_says_so() -> None:
    decoded: list[str] = []
    some = [prediction(str(number), number % 3, 0.3 + (number % 700) / 1000) for number in range(5000)]

    def count(path: str) -> bytes:
        decoded.append(path)
        return b"x" * 12_000  # more than there is room for

    made = page_of(some, evaluation(some), count)

    assert len(decoded) == len(set(decoded)) == made.photos <= 2000
    assert len(made.page) < 20_000_000
    assert made.unreadable == 0 < made.over_limit < 1000
    text = Parsed(made.page).text
    assert "1,800 of the 5,000 photos with a prediction: all photos of a class, or 600 photos chosen at random." in text
    assert "of these have no picture, as the page has reached its size limit." in text
    assert "can no longer be read" not in text


def test_photos_that_the_page_has_no_room_for_are_not_called_unreadable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of 35 pictures of 1,000 bytes as base64, each shown twice, 25 have room.
    monkeypatch.setattr(build, "THUMBNAIL_BYTES", 50_000)
    made = page_of(rows(), thumbnail=lambda path: b"" if "photo-26" in path else b"x" * 750)

    print_report(made, "r.html", "/runs/here")

    text = " ".join(Parsed(made.page).text.split())
    said = " ".join(capsys.readouterr().err.split())
    assert (made.photos, made.unreadable, made.over_limit) == (36, 1, 10)
    assert "10 of these have no picture, as the page has reached its size limit." in text
    assert "1 of these has no picture, as the file can no longer be read." in text
    assert "1 photo could not be read; if their paths are relative, run this command in /runs/here" in said
    assert "10 photos are shown without a picture, as the page has reached its size limit" in said


def test_a_photo_that_cannot_be_read_is_shown_without_picture() -> None:
    made = page_of(rows(), thumbnail=lambda path: b"" if "photo-00" in path else picture(path))

    assert (made.unreadable, made.over_limit) == (1, 0)
    assert made.page.count(b"no picture") > page_of(rows()).page.count(b"no picture")


@pytest.mark.parametrize(
    ("most", "ticks"),
    [
        (1, [0, 1]),
        (3, [0, 1, 2, 3]),
        (5, [0, 2, 4, 6]),
        (17, [0, 5, 10, 15, 20]),
        (1_300_000, [0, 500_000, 1_000_000, 1_500_000]),
    ],
)
def test_the_axis_has_few_whole_numbers(most: int, ticks: list[int]) -> None:
    assert plots.whole_ticks(most) == ticks


def test_the_bars_fit_below_the_highest_whole_number() -> None:
    plot = plots.confidence([0] * 19 + [3], [0] * 20)

    assert [text for _, text in plot.y_ticks] == ["0", "1", "2", "3"]
    assert min(rect.y for rect in plot.rects) == plots.TOP
    assert [text for _, text in plots.confidence([1_300_000], [0]).y_ticks] == ["0", "500 k", "1 M", "1.5 M"]


def test_the_values_of_each_plot_are_in_a_table() -> None:
    bins = (Bin(0, 0.5, 0, None, None), Bin(0.5, 1, 1200, 2 / 3 * 100, 75.25))
    curve = (Answered(0, 4, 100, 3, 75), Answered(0.95, 0, 0, 0, None))
    decided = DecisionMetrics(Thresholds(0.5), 4, curve[0], None, None, curve, None, None)

    assert plots.confidence([0, 1200], [0, 0]).values == [("0 to 50", "0"), ("50 to 100", "1,200")]
    assert plots.confidence([0, 1200], [3, 4]).values == [("0 to 50", "3", "3"), ("50 to 100", "1,204", "4")]
    assert plots.calibration(bins).values == [("50.0 to 100.0", "1,200", "75.2", "66.7")]
    assert plots.decisions(decided).values == [("0", "100.0", "75.0"), ("0.95", "0.0", "–")]
    made = (plots.confidence([1], [1]), plots.confidence([1], [0]), plots.calibration(bins), plots.decisions(decided))
    assert [len(plot.values[0]) for plot in made] == [len(plot.columns) for plot in made] == [3, 2, 4, 3]
    page = page_of(rows(), evaluation(rows())).page.decode()
    assert page.count("<details><summary>Values</summary><table>") == page.count('<figure class="plot">') == 2
    assert '<tr><td>95 to 100</td><td class="n">3</td><td class="n">0</td></tr>' in page


def test_areas_that_scroll_have_a_name_for_screen_readers(tmp_path: Path) -> None:
    write_training_report(tmp_path / "training.html", training(), lambda path: b"")
    pages = page_of(rows(), evaluation(rows())).page, (tmp_path / "training.html").read_bytes()

    for page in pages:
        areas = [attributes for _, attributes in Parsed(page).elements if "tabindex" in attributes]
        assert [each.get("role") for each in areas] == ["region"] * 3
        assert len({each["aria-label"] for each in areas}) == 3


def test_the_page_says_of_how_many_photos_it_shows_the_least_confident(monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_them = " ".join(Parsed(page_of(rows(), evaluation(rows())).page).text.split())
    monkeypatch.setattr(samples, "LEAST_CONFIDENT", 5)
    monkeypatch.setattr(samples, "MISTAKES", 2)
    monkeypatch.setattr(samples, "PER_CONFUSION", 1)
    some = " ".join(Parsed(page_of(rows(), evaluation(rows())).page).text.split())

    assert "All 36 photos with a prediction, the lowest top-1 score first" in all_of_them
    assert "All 9 wrong predictions, the highest score first" in all_of_them
    assert "5 of the 36 photos with a prediction, the lowest top-1 score first" in some
    assert "2 of the 9 wrong predictions, the highest score first" in some
    assert "1 of 3 photos" in some


def test_a_link_leads_from_the_page_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/a \udcff#?.jpg").touch()

    assert file_link("in/a #?.jpg", tmp_path) == "in/a%20%23%3F.jpg"
    assert file_link("in/a.jpg", tmp_path / "pages") == "../in/a.jpg"
    assert file_link(str(tmp_path / "in/a.jpg"), tmp_path) == "in/a.jpg"
    assert file_link(r"in/a \xff#?.jpg", tmp_path) == "in/a%20%FF%23%3F.jpg"
    assert file_link("javascript:alert(1)", tmp_path) == "javascript%3Aalert%281%29"
    assert file_link("s3://bucket/a.jpg", tmp_path) == ""


@pytest.mark.parametrize(
    ("unsure", "of", "share"), [(0, 300, "100.0 %"), (1, 300, "99.7 %"), (1, 3000, "> 99.9 %"), (2999, 3000, "< 0.1 %")]
)
def test_the_share_of_confident_photos_is_100_only_for_all(unsure: int, of: int, share: str) -> None:
    predictions = [prediction(f"{number}.jpg", 0, 0.4 if number < unsure else 0.9) for number in range(of)]

    text = Parsed(page_of(predictions, thumbnail=lambda path: b"").page).text

    assert f"with at least 50 % confidence{share}\n" in text


@pytest.mark.parametrize("decided", [False, True])
def test_names_of_classes_are_said_to_be_links_only_where_they_are(decided: bool) -> None:
    decision = Decision("unknown", 0.4, "low_score") if decided else None
    parsed = Parsed(page_of([replace(row, decision=decision) for row in rows() if row.status == "ok"]).page)

    links = {attributes.get("href") for tag, attributes in parsed.elements if tag == "a"}
    assert ("Each name links to its photos." in parsed.text, "#class-0" in links) == (not decided, not decided)
    assert "36 photos by top-1 class." in parsed.text


def test_rows_without_any_prediction_make_a_page() -> None:
    text = Parsed(page_of([row for row in rows() if row.status != "ok"]).page).text

    assert "0 classes" in text
    assert "no such file" in text


def test_measured_and_published_accuracy_are_in_one_table() -> None:
    found = evaluation(rows())
    text = " ".join(Parsed(page_of(rows(), found).page).text.split())

    low, high = found.results[0].metrics.top1_ci
    # The same bounds in the headline and in the table.
    assert text.replace("\xa0", " ").count(f"{low:.2f} – {high:.2f}") == 2
    assert "published (<i>weights) 23.83 5.75 77.294 93.45" in text
    assert "0.0 % as given; 100.0 % if <otherwise>" in text


def test_the_manifest_describes_the_run() -> None:
    found = describe(Path("preds.csv"), manifest(), evaluation(rows()))

    assert found.lead == "Inception V3 with the weights <i>weights, on <b>in</b>\x1b."
    assert found.facts["Ground truth"].startswith("a <test>: names")
    assert found.facts["Weights"] == f"<i>weights (sha256 {'0' * 64})"
    assert found.facts["Inference"] == "cpu, fp32, 12.5 images/s"
    page = build_page(rows(), found, None, picture).page
    assert "on &lt;b&gt;in&lt;/b&gt;\\x1b." in page.decode()


def test_without_a_manifest_the_page_names_the_file() -> None:
    assert describe(Path("in/preds.csv"), None, None).lead.startswith("Predictions in preds.csv;")


def test_a_report_that_fails_leaves_the_older_one(tmp_path: Path) -> None:
    (tmp_path / "preds.csv").write_bytes(csv_header(3) + to_csv([prediction("a.jpg", 0, 0.5)], 3))
    (tmp_path / "report.html").write_text("older")

    def fail(path: str) -> bytes:
        raise RuntimeError(path)

    with pytest.raises(RuntimeError, match=r"a\.jpg"):
        write_report(tmp_path / "report.html", tmp_path / "preds.csv", None, None, fail)
    assert (tmp_path / "report.html").read_text() == "older"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["preds.csv", "report.html"]


def test_a_report_that_cannot_be_written_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "preds.csv").write_bytes(csv_header(3) + to_csv([prediction("a.jpg", 0, 0.5)], 3))

    with pytest.raises(InceptionError, match=r"r\.html: no such file or directory; choose another"):
        write_report(tmp_path / "none" / "r.html", tmp_path / "preds.csv", None, None, picture)


@pytest.mark.parametrize("escaped", [r"in/\xe9.jpg", r"in/\x41\xe9.jpg"])
def test_a_thumbnail_is_read_by_the_bytes_of_the_name(escaped: str, tmp_path: Path) -> None:
    (tmp_path / "preds.csv").write_bytes(csv_header(3) + to_csv([prediction(escaped, 0, 0.5)], 3))
    tried: list[str] = []

    def only_raw(path: str) -> bytes:
        tried.append(path)
        return picture(path) if "\udce9" in path else b""

    written = write_report(tmp_path / "r.html", tmp_path / "preds.csv", None, None, only_raw)

    assert tried == [escaped, escaped.replace(r"\xe9", "\udce9")]
    assert (written.unreadable, written.over_limit) == (0, 0)


# Thumbnails.


def test_a_thumbnail_is_small_upright_and_without_metadata(tmp_path: Path) -> None:
    big, exif = Image.new("RGB", (1600, 1200), "red"), Image.Exif()
    exif[0x0112] = 6
    big.save(tmp_path / "big.jpg", exif=exif, comment=b"where I live")

    data = thumbnail(str(tmp_path / "big.jpg"))

    (tmp_path / "small.jpg").write_bytes(data)
    with Image.open(tmp_path / "small.jpg") as small:
        assert (small.format, small.size) == ("JPEG", (SIDE * 3 // 4, SIDE))
        assert not small.getexif()
    assert b"where I live" not in data
    assert len(data) < 8000


def test_the_thumbnail_of_an_unreadable_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"no picture")

    assert [thumbnail(str(tmp_path / name)) for name in ("no.jpg", "gone.jpg", ".")] == [b"", b"", b""]


# The command.


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the predictions and the report of five photos.

    One file name is not UTF-8, and a melon is in the folder of the apples, where its prediction is a mistake.
    """
    folder = tmp_path_factory.mktemp("report")
    samples_of = Path(__file__).parent.parent / "sample_images"
    chosen = {
        "apple": [samples_of / "apple/apple-1.jpg", samples_of / "melon/melon-1.jpg"],
        "pear": sorted((samples_of / "pear").iterdir())[:2],
    }
    for name, photos in chosen.items():
        (folder / "photos" / name).mkdir(parents=True)
        for photo in photos:
            (folder / "photos" / name / photo.name).write_bytes(photo.read_bytes())
    odd = bytes(folder / "photos/pear") + b"/\xe9t\xe9.jpg"
    Path(odd.decode(errors="surrogateescape")).write_bytes(photo.read_bytes())
    out, page = folder / "preds.csv", folder / "run.html"
    code = code_of("classify", folder / "photos", "-w", "demo", "-o", out, "-j", 0, "-q", "--report", page)
    assert code == 0
    return folder


def pictures(page: Path) -> set[bytes]:
    """Return the distinct pictures in a page."""
    return {
        base64.b64decode(found) for found in re.findall(rb'src="data:image/jpeg;base64,([^"]+)"', page.read_bytes())
    }


def without_date(page: Path) -> bytes:
    return re.sub(rb"Created on [0-9-]+", b"", page.read_bytes())


def test_classify_and_report_write_the_same_page(classified: Path, inception: Inception) -> None:
    ended = inception("report", classified / "preds.csv", "--out", classified / "again.html")

    assert ended.code == 0, ended.err
    assert without_date(classified / "again.html") == without_date(classified / "run.html")
    assert f"report written to {classified / 'again.html'}" in " ".join(ended.err.split())
    assert "5 photos" in ended.err


def test_a_photo_whose_name_is_not_utf_8_has_its_picture(classified: Path) -> None:
    assert len(pictures(classified / "run.html")) == 4  # the fifth is a copy
    assert b"no picture</span><span" not in (classified / "run.html").read_bytes()
    assert rb"\xe9t\xe9.jpg" in (classified / "run.html").read_bytes()


def test_labels_come_from_folders_or_from_a_file(classified: Path, inception: Inception, tmp_path: Path) -> None:
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        names = [(str(photo), photo.parent.name) for photo in (classified / "photos").rglob("*.jpg")]
        table = [(name, label) for name, label in names if name.isprintable()]
        csv.writer(file).writerows([("path", "label"), *table])
    for words in (("--val-dir", classified / "photos"), ("--labels", tmp_path / "labels.csv")):
        ended = inception("report", classified / "preds.csv", "-o", tmp_path / "labelled.html", *words)

        assert ended.code == 0, ended.err
        text = Parsed((tmp_path / "labelled.html").read_bytes()).text
        assert "Measured and published accuracy" in text
        assert "Most confident mistakes" in text


def test_evaluate_writes_the_report_of_existing_predictions(
    classified: Path, inception: Inception, tmp_path: Path
) -> None:
    words = ("--predictions", classified / "preds.csv", "--val-dir", classified / "photos")

    ended = inception("evaluate", *words, "--report", tmp_path / "r.html", "--expect-top1", 100)

    assert ended.code == 5  # the report is written although the gate is not met
    assert "Measured and published accuracy" in Parsed((tmp_path / "r.html").read_bytes()).text


@pytest.mark.slow
def test_evaluate_writes_the_report_of_temporary_predictions(
    classified: Path, inception: Inception, tmp_path: Path
) -> None:
    page = tmp_path / "r.html"

    ended = inception("evaluate", "--val-dir", classified / "photos", "-w", "demo", "-j", 0, "--report", page)

    assert ended.code == 0, ended.err
    assert "Measured and published accuracy" in Parsed(page.read_bytes()).text
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["report", "ROWS"], 2, "--out FILE is missing"),
        (["report", "ROWS", "--out", "ROWS"], 2, "ends in .html"),
        (["report", "ROWS", "--out", "NOWHERE/r.html"], 1, "no such folder"),
        (["report", "NOWHERE.csv", "--out", "r.html"], 1, "NOWHERE.csv"),
        (["report", "ROWS", "--out", "r.html", "--labels", "NOWHERE.txt"], 1, "NOWHERE.txt"),
        (["report", "ROWS", "-o", "r.html", "--val-dir", "PHOTOS", "--labels", "l.csv"], 2, "leave one out"),
        (["evaluate", "--predictions", "ROWS", "--val-dir", "PHOTOS", "--labels", "l.csv"], 2, "leave one out"),
        (["classify", "PHOTOS", "-w", "demo", "--report", "r.html"], 2, "give --out FILE as well"),
        (["classify", "PHOTOS", "-w", "demo", "--report", "r.html", "--out", "-"], 2, "give --out FILE as well"),
        (["evaluate", "--val-dir", "PHOTOS", "-w", "demo", "--report", "r.csv"], 2, "ends in .html"),
    ],
)
def test_errors_are_one_line(
    words: list[str],
    code: int,
    said: str,
    classified: Path,
    inception: Inception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {"ROWS": str(classified / "preds.csv"), "PHOTOS": str(classified / "photos")}

    ended = inception(*(paths.get(word, word) for word in words))

    assert ended.code == code, ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert said in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["-preds.csv", "-o x.csv", "it's.csv"])
def test_the_hints_are_commands_for_any_file_name(
    name: str, inception: Inception, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(csv_header(3) + to_csv([prediction("a.jpg", 0, 0.5)], 3))
    page = f"{name}.html"

    print_report_hint(name, page)

    hint = shlex.split(capfd.readouterr().err.partition(": ")[2])
    assert inception(*hint[1:]).code == 0
    assert Path(page).exists()
    Path("a.jpg").touch()
    undo = shlex.split(inception("tag", "--", name).err.rpartition("to undo it: ")[2])
    assert Path("a.jpg.xmp").exists()
    assert inception(*undo[1:]).code == 0
    assert not Path("a.jpg.xmp").exists()


# The confusion matrix


def matrix_of(pairs: list[tuple[int, int]], classes: int) -> ConfusionMatrix:
    names = Classes(tuple(f"class {number}" for number in range(classes)))
    true, predicted = np.array(pairs).T
    return ConfusionMatrix.of(names, true, predicted)


def test_the_confusion_matrix_shows_every_class_that_occurs() -> None:
    table = matrix_table(matrix_of([(0, 0)] * 7 + [(0, 2)] + [(3, 3)], 1000))

    assert (table.of, table.names, table.columns) == (3, ("class 0", "class 2", "class 3"), table.names)
    assert [[cell.count for cell in row.cells] for row in table.rows] == [[7, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert [(cell.kind, cell.shade) for cell in table.rows[0].cells] == [("right", 4), ("wrong", 1), ("wrong", 0)]
    assert [row.support for row in table.rows] == [8, 0, 1]


def test_of_many_classes_the_forty_most_confused_are_shown() -> None:
    right = [(index, index) for index in range(100)]
    wrong = [(index, index + 1) for index in range(40, 100, 2)]  # sixty classes with a confusion each
    wrong += [(index, 99) for index in range(50, 70)] * 2 + [(60, 150)]

    table = matrix_table(matrix_of(right + wrong, 200))

    assert (table.of, len(table.names), table.columns[-1]) == (101, 40, "other classes")
    assert {f"class {index}" for index in range(50, 70)} | {"class 99"} <= {*table.names}
    row = table.rows[table.names.index("class 60")]
    assert row.cells[-1].count == 5 - sum(cell.count for cell in row.cells[:-1]) == 1  # class 150
    assert row.support == 5


def test_the_page_has_the_confusion_matrix() -> None:
    text = page_of(rows(), evaluation(rows())).page.decode()

    section = text[text.index('<section id="confusion-matrix"') : text.index('<section id="confusions"')]
    parsed = Parsed(section.encode())
    cells = [attributes.get("title") for tag, attributes in parsed.elements if tag == "td" and "title" in attributes]
    assert len([tag for tag, attributes in parsed.elements if attributes.get("scope") == "row"]) == 3
    assert sum(int(str(cell).rpartition(": ")[2].split(" of ")[0]) for cell in cells) == 36
    assert "<b>" not in section
    assert "Macro averages of 3 classes with photos" in text
