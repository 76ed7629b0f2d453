"""`Classifier`, from Python."""

import multiprocessing
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from running import Inception

import inception_cli
from inception_cli import Classifier, Prediction
from inception_cli.errors import UsageError
from inception_cli.predictions.formats import read_predictions, to_csv
from inception_cli.predictions.prediction import header
from inception_cli.predictions.text import escape_bytes

SAMPLES = Path(__file__).parents[1] / "sample_images"


@pytest.fixture(scope="module")
def classify(stub: str) -> Classifier:
    return Classifier(stub, precision="fp32", batch_size=4, workers=0)


def test_its_rows_are_those_of_the_command(
    classify: Classifier, stub: str, inception: Inception, photos: Path, tmp_path: Path
) -> None:
    out, broken = tmp_path / "p.csv", tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    options = ("-w", stub, "--precision", "fp32", "-b", 4, "-j", 0, "-o", out)
    assert inception("classify", photos / "a", broken, *options).code == 3

    rows = classify([photos / "a", str(broken)])

    written = [*read_predictions(out)]
    assert [(escape_bytes(row.path), row.status) for row in rows] == [(row.path, row.status) for row in written]
    assert to_csv(rows, 5) == b"".join(out.read_bytes().splitlines(keepends=True)[1:])
    assert rows[-1] == Prediction(str(broken), "corrupt", error=rows[-1].error)
    assert "header is damaged" in rows[-1].error
    assert rows == written  # also the scores, to the last digit


def test_one_path_is_a_list_of_one(classify: Classifier, photos: Path) -> None:
    (photo,) = classify(photos / "a/00.jpg")

    assert photo.labels[0] in classify.labels
    assert len(classify.labels) == 10


def test_predictions_are_streamed(classify: Classifier, photos: Path) -> None:
    assert next(classify.stream([photos])).path == f"{photos}/02.jpg"


def test_many_images_are_decoded_by_workers(classify: Classifier, stub: str, photos: Path) -> None:
    many = [photos] * 2  # more than FEW_IMAGES
    with_workers = Classifier(stub, precision="fp32", batch_size=4, workers=2)

    rows = with_workers(many)

    assert len(rows) == 48
    assert rows == classify(many)


def test_a_table_has_the_columns_and_the_values_of_the_file(
    classify: Classifier, stub: str, inception: Inception, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p.csv"
    inputs = (photos / "a", tmp_path / "gone.jpg")
    inception("classify", *inputs, "-w", stub, "--precision", "fp32", "-b", 4, "-j", 0, "-o", out)

    frame = classify.to_frame(inputs)

    expected = pd.read_csv(out)
    assert list(frame.columns) == header(5) == list(expected.columns)
    for name in ("path", "status", "top1_index", "top1_label", "top1_score", "top5_score", "error"):
        values = [None if pd.isna(value) else value for value in frame[name]]
        assert values == [None if pd.isna(value) else value for value in expected[name]], name


def test_no_input_gives_no_prediction(classify: Classifier) -> None:
    assert classify([]) == []


@pytest.mark.parametrize("others", [0, 1])
def test_a_missing_file_has_a_prediction_also_if_no_input_exists(
    others: int, classify: Classifier, photos: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "none.jpg"

    rows = classify([missing, tmp_path / "no folder/", *[photos / "a/00.jpg"] * others])

    assert [row.status for row in rows] == ["missing", "missing", *["ok"] * others]
    assert rows[0] == Prediction(str(missing), "missing", error=rows[0].error)
    assert rows[0].error


def test_unknown_weights_are_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean demo"):
        Classifier("deno")


@pytest.mark.parametrize(("name", "value"), [("top_k", 0), ("crops", 3), ("device", "gpu"), ("precision", "bf61")])
def test_an_invalid_argument_is_a_value_error_that_names_it(name: str, value: object, stub: str) -> None:
    with pytest.raises(ValueError, match=name) as error:
        Classifier(stub, **{name: value})  # type: ignore[arg-type]
    assert "--" not in str(error.value)


def test_the_package_alone_imports_nothing_heavy() -> None:
    program = "import sys, inception_cli; print(inception_cli.Prediction.__name__, 'torch' in sys.modules)"

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ended.stdout.split() == ["Prediction", "False"]
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        inception_cli.Nonsense  # noqa: B018


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_a_script_needs_no_main_guard(method: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Workers that are spawned import the main script, unless they are kept from it."""
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing\n"
        f"multiprocessing.set_start_method({method!r}, force=True)\n"
        "from inception_cli import Classifier\n"
        f"predictions = Classifier('demo', workers=1)({str(SAMPLES)!r})\n"
        "print(len(predictions), {each.status for each in predictions})\n"
    )

    process = multiprocessing.get_context("fork").Process(target=runpy.run_path, args=(str(script), None, "__main__"))
    process.start()
    process.join()

    assert (process.exitcode, capfd.readouterr()) == (0, ("40 {'ok'}\n", ""))
