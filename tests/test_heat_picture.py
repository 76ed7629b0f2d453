"""The picture of a heat map: colours in equal steps, the map in its place, a legend that has room."""

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inception_cli.cli.outputs import HEAT_MAP_MARKER
from inception_cli.images.colour_map import VIRIDIS, colours
from inception_cli.images.heat_picture import (
    MARKER,
    MIN_WIDTH,
    Legend,
    can_write,
    draw,
    encode,
    interpolate,
    signed,
)

LEGEND = Legend("pear  90.0 %", "Contribution to the logit", ("mean +1, bias 0: logit +1 (fp32)",))
WHOLE = (0.0, 0.0, 1.0, 1.0)


def lightness(rgb: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return CIE L* (0 to 100) of sRGB (…, 3) in 0…255."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


def test_equal_steps_of_a_value_are_equal_steps_of_lightness() -> None:
    steps, small_steps = (np.diff(lightness(colours(np.linspace(0, 1, n)).astype(float))) for n in (9, 129))

    assert steps == pytest.approx(steps.mean(), rel=0.15)
    assert small_steps.min() > 0  # also in grey
    assert colours(np.array([0.0, 0.5, 1.0])).tolist() == [[68, 1, 84], [33, 144, 140], [253, 231, 37]]
    assert len(VIRIDIS) == 9


def test_a_map_is_exact_at_the_centres_of_its_cells_and_linear_between_them() -> None:
    values = np.array([[0.0, 4.0], [2.0, 8.0]])

    smooth = interpolate(values, (300, 100), (1 / 3, 0.0, 2 / 3, 1.0))  # cells of 50 × 50 pixels, from x = 100 on

    assert smooth.shape == (100, 300)
    at = smooth[[24, 24, 74, 74], [124, 174, 124, 174]]
    assert at == pytest.approx([0, 4, 2, 8], abs=0.1)
    assert smooth[49:51, 149:151].mean() == pytest.approx(3.5)
    assert (smooth[:, 0] == smooth[:, 110]).all()  # beyond the first centre as there


def test_colour_is_where_the_network_looks_and_the_highest_cell_is_yellow() -> None:
    photo = Image.effect_noise((200, 100), 60).convert("RGB")
    values = np.zeros((4, 4))
    values[0, 3] = 1  # top right

    picture = np.asarray(draw(photo, values, (0.25, 0.0, 0.75, 1.0), WHOLE, LEGEND)).astype(int)

    above = picture[:500]  # the photo is drawn at 1000 × 500
    grey = np.ptp(above, axis=2) == 0
    assert grey[:, :245].all()
    assert grey[:, 755:].all()
    assert not grey[:, 255:745].any()
    assert above[62, 687, :2].min() > above[62, 687, 2] + 60  # the centre of the highest cell
    assert above[400, 300, 2] > above[400, 300, 1] + 20  # purple
    assert (picture[500:, :10] == 255).all()  # the paper of the legend


@pytest.mark.parametrize("size", [(60, 40), (30, 4000), (4000, 30), (1, 1), (3000, 2000)])
def test_a_photo_of_any_shape_has_a_readable_legend(size: tuple[int, int]) -> None:
    picture = draw(Image.new("RGB", size), np.eye(3), WHOLE, WHOLE, LEGEND)

    assert picture.width >= MIN_WIDTH
    assert picture.height < 4300
    assert max(picture.size) >= 800


@pytest.mark.parametrize("name", ["梨" * 40, "long " * 200, "é×–α", "\U0001f34e", ""])
def test_a_title_that_is_too_long_or_has_no_glyphs_is_drawn_within_the_picture(name: str) -> None:
    title = replace(LEGEND, title=f"{name}  12.3 %")

    picture = np.asarray(draw(Image.new("RGB", (640, 480)), np.eye(3), WHOLE, WHOLE, title))

    assert (picture[750:, -8:] == 255).all()  # the margin at the right


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".PNG", "PNG"), (".jpg", "JPEG"), (".jpeg", "JPEG")])
def test_a_picture_is_encoded_by_its_suffix_and_can_be_recognised(suffix: str, kind: str) -> None:
    data = encode(draw(Image.new("RGB", (64, 48)), np.eye(3), WHOLE, WHOLE, LEGEND), suffix)

    assert Image.open(io.BytesIO(data)).format == kind
    assert MARKER.encode() == HEAT_MAP_MARKER
    assert HEAT_MAP_MARKER in data[:1000]


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (3.14159, "+3.14"), (-0.0123, "-0.0123"), (1111.66, "+1111.7"), (-12.0, "-12.0")]
)
def test_contributions_are_shown_with_their_sign(value: float, shown: str) -> None:
    assert signed(value) == shown


def test_a_map_without_differences_is_drawn() -> None:
    picture = draw(Image.new("RGB", (64, 48)), np.full((4, 4), 2.0), WHOLE, WHOLE, LEGEND)

    assert picture.width == 1000


def test_a_text_can_be_written_if_a_font_has_its_characters() -> None:
    assert can_write("pear 90 %")
    assert not can_write("pear \uffff")
