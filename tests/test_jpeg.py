"""JPEGs: the pixels of Pillow, and a status that tells whether the data are whole.

The statuses follow from how each file is made: bytes that are removed, overwritten or added. Those of libjpeg's
warnings were compared with what `djpeg -verbose` of libjpeg-turbo prints.
"""

import re
import struct
from base64 import b85decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats import drawn, saved
from hostile import ARITHMETIC
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from inception_cli.config import PRESETS, Decode, PixelConfig
from inception_cli.images import jpeg
from inception_cli.images.corruption import TrackedFile
from inception_cli.images.decode import Failure, FetchedFile, read, read_jpeg
from inception_cli.images.failure import PILLOW_DECODES_IT

SAMPLES = Path(__file__).parent.parent / "sample_images"
EOI = b"\xff\xd9"
EXACT = PixelConfig(PRESETS["torchvision"])
FAST = PixelConfig(replace(PRESETS["torchvision"], size=20, resize=23), decode="fast")  # decodes at 1/4

# 32 × 24 pixels in three scans, one for each component: made by libjpeg-turbo's `cjpeg -scans`.
THREE_SCANS = b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00RO70|EjA0|NsD0|NvF2n7WM1O*BQ2L=cX3JeSj3JVJj4iXRz4iOFu3lJ6%5fc;@6%`B*7Z?^47!ni}"
    "6#v@*LjeN>1O)^I2?YfS6b%av6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6cqo!01*fP7yuvx0U`hb5di}c"
    "0sq7R9{>OW1pxs80RaI300000000010s{mE1_uZU3Jd?l0JRVR0s#X90t5pE1q1{D00Dgg0s{a95d{(<F+m0sQDFxnaTGFvk)a49Lb1UWQqk}v"
    "Gh%Xr2?`b$7#SKRCMPH<Dl|1VH#j*uLqtVJM@UIZQ&d$}S6EqEV`OD!XJ~0^b98lfcX)YvgM@{Khlq)al9QB`mY0~BnxdnmrKYE-sj9NGw6(Uk"
    "xVgH*!^FkL$H>Xb($mz{*4NnC+Tr5k<mKk)=;`Y5^7Hid_V@Vt`v2Mh2mt{A06zfu^G)z~Pu>2N)akws>GFP+)akws>GFP+)oH#C>GFP+TTSqH"
    "Pu>2N)oI=i>GFP+)akws>HELZx}7`0-9As!tLfej>GFP+)akws>HELZx}7({-9As!x~(_C-9LBwSO3HS9{~UZ0RaI40RaI40RR91000010s{mE"
    "1_uZU3Jd?l0JRYS0s#U91Oo&I1q1{D0Rndb0RjUN1O*{61`<J02Vrp&A~Jyp6he`qvB3!=Gg9ysVsg<679=#`CGi&+85$-hC@Cs6Ha9pqIzvQ7"
    "Mn_0VN>fx-R##YAT4Q8oW@l(=YIAgTc6WGrdV+(5g@%WSiHeewl$Dm3n3<ZQqok##r>Lo_va__cwzs&sy28W6#m2|T$;#5x)YaD4*xB0R<K*S$"
    "=jiF`^7Hid_V@Vt`v2Mh2mt~S06zf!r_cDqe|Y|I&-lZCc=+u905ipF?;p-N{%4BU-ar4^00;pC5dc2``5qYJKZo8wu6SdJ{vUY%0514r9betl"
    "{<z_cb$@qL|Je"
)
# 128 × 128 pixels of a diagonal gradient, with a scan of the coefficients 1 and 2 alone: made by libjpeg-turbo's
# `jpegtran -scans`. They are -1 in nearly all blocks, in zero bits.
GRADIENT = b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00;&K2L=TQ2L}fU2?z=d6b%du3k(?&6Au&}8Xq1V8XO!TBrYc)A}k{u94I#_EHE)NG&CP4IXyTsJT5adGX"
    "KH=3kU#!0Du7j5di<h02crO0RaI30000000000000020|p2G+5iXv0RR910N^dUHrs8s@{Q59+ikY;j*Yh4ZMRIF8*R4RZjUJ2ZMNHVZz$Vsw%em"
    "`DBEqe-5YNx+ikY!+ixh_ZMR0-Zz$Vsx;EQyDBEq(w%czg+is1v+ixh_bZxfVZz$WNZMNHQDBT-vw%czg=-X|!+j@Wh!~hl$0RaI300000000000"
    "00000Rsg8+5iXv0RRC4000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000000000000000000000000000000000003FrUB038qj0s;a90RR9100000000010t6BR5d{V!aR1r>"
    "2mt{A13v)!{O)qgFR#Z;CJAga=bSDBGOFB{we;628$<xi+b!q+*#"
)
ADOBE_7 = struct.pack(">BBH5sHHHB", 0xFF, 0xEE, 14, b"Adobe", 100, 0, 0, 7)
PICTURE = drawn(230, 170)
KINDS = {
    "baseline": saved(PICTURE, "JPEG"),
    "progressive": saved(PICTURE, "JPEG", progressive=True),
    "optimized": saved(PICTURE, "JPEG", optimize=True),
    "without subsampling": saved(PICTURE, "JPEG", subsampling=0, quality=95),
    "restart markers in each row": saved(PICTURE, "JPEG", restart_marker_rows=1),
    "restart markers": saved(PICTURE, "JPEG", restart_marker_blocks=4),
    "progressive with restart markers": saved(PICTURE, "JPEG", progressive=True, restart_marker_blocks=4),
    "grey": saved(PICTURE.convert("L"), "JPEG"),
    "grey and progressive": saved(PICTURE.convert("L"), "JPEG", progressive=True),
    "RGB": saved(PICTURE, "JPEG", keep_rgb=True),
    "CMYK": saved(PICTURE.convert("CMYK"), "JPEG"),
    "three scans": THREE_SCANS,
}
BASELINE, PROGRESSIVE, RESTARTS = KINDS["baseline"], KINDS["progressive"], KINDS["restart markers"]


def status(data: bytes, config: PixelConfig = EXACT) -> str:
    """Return the status of a JPEG."""
    result = read(FetchedFile("photo.jpg", data), config)
    return result.status if isinstance(result, Failure) else "ok"


def pixels(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels of a JPEG that decodes."""
    image = read(FetchedFile("photo.jpg", data), EXACT)
    assert isinstance(image, Image.Image), image
    return np.asarray(image)


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def scans(data: bytes) -> list[tuple[int, int]]:
    """Return start and end of the data of each scan."""
    found = []
    for match in re.finditer(b"\xff\xda", data):
        start = match.end() + int.from_bytes(data[match.end() : match.end() + 2])
        end = re.compile(rb"\xff[^\x00\xd0-\xd7]").search(data, start)
        found.append((start, end.start() if end else len(data)))
    return found


def longest(data: bytes) -> tuple[int, int]:
    """Return start and end of the data of the longest scan."""
    return max(scans(data), key=lambda scan: scan[1] - scan[0])


def overwritten(data: bytes, start: int, by: bytes) -> bytes:
    return data[:start] + by + data[start + len(by) :]


def before_first_table(data: bytes, added: bytes) -> bytes:
    """Return a JPEG with bytes added between its metadata and its first table."""
    return data.replace(b"\xff\xdb", added + b"\xff\xdb", 1)


def with_adobe_7(data: bytes) -> bytes:
    """Return a JPEG with an Adobe marker of an unknown colour transform; a JFIF marker would override it."""
    return data[:2] + ADOBE_7 + data[20 if data[6:10] == b"JFIF" else 2 :]


# --- Pixels.


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_equal_pillows(kind: str) -> None:
    assert np.array_equal(pixels(KINDS[kind]), by_pillow(KINDS[kind]))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (8, 8), (17, 15), (64, 33), (501, 3), (333, 247)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pixels_of_any_size_equal_pillows(size: tuple[int, int], mode: str) -> None:
    for options in ({}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}):
        data = saved(drawn(*size).convert(mode), "JPEG", **options)
        assert np.array_equal(pixels(data), by_pillow(data))


@pytest.mark.parametrize("kind", ["baseline", "progressive", "without subsampling", "grey", "RGB", "CMYK"])
@pytest.mark.parametrize("resize", [10, 20, 42, 80])
def test_pixels_at_a_reduced_scale_equal_pillows(kind: str, resize: int) -> None:
    config = replace(FAST, preset=replace(FAST.preset, size=resize - 2, resize=resize))
    expected = Image.open(BytesIO(KINDS[kind]))
    expected.draft(None, (2 * resize, 2 * resize))

    image = read(FetchedFile("photo.jpg", KINDS[kind]), config)

    assert isinstance(image, Image.Image)
    assert image.size == expected.size
    assert np.array_equal(np.asarray(image), np.asarray(expected.convert("RGB")))
    assert resize == 80 or image.width < 230


def test_threads_decode_at_the_same_time() -> None:
    images = [saved(drawn(40 + 13 * number, 30 + 7 * number), "JPEG") for number in range(12)] * 8
    with ThreadPoolExecutor(4) as threads:
        decoded = list(threads.map(pixels, images))
    assert all(np.array_equal(actual, by_pillow(data)) for actual, data in zip(decoded, images, strict=True))


def test_decoding_a_jpeg_does_not_change_images_decoded_before() -> None:
    first = pixels(BASELINE)
    pixels(KINDS["without subsampling"])
    assert np.array_equal(first, by_pillow(BASELINE))


@pytest.mark.parametrize("kind", KINDS)
def test_very_large_jpegs_are_decoded_by_pillow_and_checked(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "MAX_PIXELS", 1)
    start, end = longest(KINDS[kind])

    assert np.array_equal(pixels(KINDS[kind]), by_pillow(KINDS[kind]))
    assert status(KINDS[kind][: (start + end) // 2] + EOI) == "truncated"


def test_a_file_that_is_too_large_to_be_checked_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "MAX_BYTES", len(BASELINE) - 1)

    assert jpeg.read_bytes(TrackedFile(BytesIO(BASELINE))) is None
    assert np.array_equal(pixels(BASELINE), by_pillow(BASELINE))


# --- Data that are missing.


@pytest.mark.parametrize("decode", ["exact", "fast"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_jpeg_with_an_end_marker_is_truncated(kind: str, decode: Decode) -> None:
    data, config = KINDS[kind], replace(FAST, decode=decode)
    start, end = longest(data)
    for length in np.linspace(start, end - 10, 12).astype(int):
        assert status(data[:length] + EOI, config) == "truncated", length
        assert status(data[:length], config) == "truncated", length


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_whose_middle_is_missing_is_damaged(kind: str) -> None:
    data = KINDS[kind]
    start, end = longest(data)
    half = (start + end) // 2
    if kind == "progressive with restart markers":
        half = data.index(b"\xff\xd3", half)  # elsewhere it changes only what a few blocks hold
    assert status(data[:half] + data[half + (end - start) // 4 :]) in ("truncated", "corrupt")


def test_restart_markers_of_which_the_last_are_missing_are_truncated() -> None:
    for marker in (b"\xff\xd0", b"\xff\xd3", b"\xff\xd7"):
        assert status(RESTARTS[: RESTARTS.index(marker)] + EOI) == "truncated"


def test_an_image_without_the_scan_of_a_component_is_truncated() -> None:
    """libjpeg does not warn of it, and decodes zeros."""
    *_, third = re.finditer(b"\xff\xda", THREE_SCANS)
    assert status(THREE_SCANS[: third.start()] + EOI) == "truncated"
    assert status(THREE_SCANS[: third.start()]) == "truncated"


def test_the_first_image_of_several_must_be_whole() -> None:
    data = saved(PICTURE, "MPO", save_all=True, append_images=[PICTURE])
    start, end = scans(data)[0]
    half = (start + end) // 2
    last = scans(data)[-1][0] + 100

    assert status(data) == "ok"
    assert status(data[:half] + data[end:]) == "truncated"
    assert status(data[:last]) == "ok"


def test_a_file_of_zeros_after_a_part_of_the_image_is_truncated() -> None:
    """As an interrupted download or copy leaves it."""
    for kind in ("baseline", "progressive", "optimized", "restart markers", "grey", "CMYK"):
        data = KINDS[kind]
        start, end = longest(data)
        for length in ((3 * start + end) // 4, (start + end) // 2):
            assert status(data[:length] + bytes(len(data) - length)) == "truncated"
            assert status(data[:length] + bytes(3 * len(data))) == "truncated"
            assert status(data[:length] + bytes(3 * len(data)) + EOI) == "truncated"


# --- Data that are wrong.


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "progressive" not in kind and kind != "three scans"])
@pytest.mark.parametrize("length", [300, 512, 1000])
def test_a_jpeg_with_zeros_in_its_middle_is_damaged(kind: str, length: int) -> None:
    start, end = longest(KINDS[kind])
    for at in np.linspace(start, end - length - 100, 9).astype(int):
        damaged = overwritten(KINDS[kind], at, bytes(length))
        assert status(damaged) in ("truncated", "corrupt"), at
        assert status(damaged, FAST) == status(damaged), at


@pytest.mark.parametrize("length", [200, 300, 1000])
def test_zeros_in_any_scan_that_does_not_refine_others_are_damage(length: int) -> None:
    """In the first one, of the DC coefficients, they shift the image: decoding them takes other blocks."""
    data = saved(drawn(640, 480), "JPEG", progressive=True)
    for start, end in [scan for scan in scans(data) if data[scan[0] - 1] < 0x10 and scan[1] - scan[0] > 2 * length]:
        for at in np.linspace(start, end - length - 100, 4).astype(int):
            assert status(overwritten(data, at, bytes(length))) in ("truncated", "corrupt"), (start, at)


@pytest.mark.parametrize("by", [b"\xff\x00" * 20, b"\xff\xd5" * 20, b"\xff" * 300])
def test_bytes_that_no_scan_holds_are_damage(by: bytes) -> None:
    for kind in ("baseline", "grey", "CMYK"):
        start, end = longest(KINDS[kind])
        assert status(overwritten(KINDS[kind], (start + end) // 2, by)) in ("truncated", "corrupt")


def test_a_bad_huffman_code_is_corrupt() -> None:
    """A code of ones only is in no table (section C.2)."""
    start, end = longest(BASELINE)
    damaged = overwritten(BASELINE, (start + end) // 2, b"\xff\x00" * 20)
    result = read(FetchedFile("photo.jpg", damaged), EXACT)

    assert result == Failure("corrupt", f"damaged image: Corrupt JPEG data: bad Huffman code ({PILLOW_DECODES_IT})")


def test_a_missing_restart_interval_is_corrupt() -> None:
    first, second = RESTARTS.index(b"\xff\xd3"), RESTARTS.index(b"\xff\xd5")
    assert status(RESTARTS[:first] + RESTARTS[second:]) == "corrupt"
    swapped = RESTARTS[:first] + b"\xff\xd4" + RESTARTS[first + 2 : second - 2]
    assert status(swapped + RESTARTS[second - 2 :]) == "corrupt"


def test_errors_tell_whether_pillow_decodes_the_image() -> None:
    """Those are the rows that a publisher's program counts."""
    start, end = longest(BASELINE)
    half = BASELINE[: (start + end) // 2]
    results = [read(FetchedFile("photo.jpg", data), EXACT) for data in (half + EOI, half)]

    assert results == [
        Failure("truncated", f"a part of the image data is missing ({PILLOW_DECODES_IT})"),
        Failure("truncated", "the file ends before the image is complete"),
    ]
    Image.open(BytesIO(half + EOI)).load()
    with pytest.raises(OSError, match="truncated"):
        Image.open(BytesIO(half)).load()


# --- What is odd and harmless.

ODD: dict[str, Callable[[bytes], bytes]] = {
    "bytes before a marker": lambda data: before_first_table(data, b"some bytes"),
    "zeros before a marker": lambda data: before_first_table(data, bytes(500)),
    "bytes before the end marker": lambda data: data[:-2] + b"some more bytes" * 9 + EOI,
    "zeros before the end marker": lambda data: data[:-2] + bytes(5000) + EOI,
    "fill bytes before the end marker": lambda data: data[:-2] + b"\xff" * 500 + EOI,
    "an unknown JFIF revision": lambda data: data.replace(b"JFIF\0\x01", b"JFIF\0\x09"),
    "an unknown Adobe transform": lambda data: with_adobe_7(data),
    "bytes and an Adobe marker": lambda data: before_first_table(with_adobe_7(data), b"bytes"),
}
WITHOUT_END: dict[str, Callable[[bytes], bytes]] = {
    "no end marker": lambda data: data[:-2],
    "half an end marker": lambda data: data[:-1],
    "zeros in place of it": lambda data: data[:-2] + bytes(5000),
    "text in place of it": lambda data: data[:-2] + b"Panorama_Shot_Info SEFT" * 30,
    "a trailer with markers": lambda data: data[:-2] + b"SEFH\xff\x3a\xff\xc0\0\x11SEFT\xff",
    "another image": lambda data: data[:-2] + BASELINE,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("kind", KINDS)
def test_harmless_oddities_do_not_change_the_pixels(kind: str, odd: str) -> None:
    changed = ODD[odd](KINDS[kind])
    if "Adobe" in odd and kind in ("RGB", "CMYK"):  # their colours follow from an Adobe marker
        assert status(changed) == "ok"
    else:
        assert np.array_equal(pixels(changed), by_pillow(KINDS[kind]))


@pytest.mark.parametrize("odd", WITHOUT_END)
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_without_an_end_marker_is_ok_if_it_is_whole(kind: str, odd: str) -> None:
    changed = WITHOUT_END[odd](KINDS[kind])
    assert np.array_equal(pixels(changed), by_pillow(KINDS[kind]))
    assert status(changed, FAST) == "ok"


@pytest.mark.parametrize("odd", [*ODD, *WITHOUT_END])
@pytest.mark.parametrize("kind", KINDS)
def test_a_harmless_oddity_does_not_hide_missing_data(kind: str, odd: str) -> None:
    data, change = KINDS[kind], (ODD | WITHOUT_END)[odd]
    start, end = longest(data)
    shorter = data[: (start + end) // 2]
    if odd in ("bytes before the end marker", "text in place of it", "a trailer with markers", "another image"):
        shorter = data[: start + (end - start) // 4]  # the bytes are decoded as image data
    assert status(change(shorter + EOI)) in ("truncated", "corrupt")


def test_a_harmless_oddity_does_not_hide_a_bad_code() -> None:
    start, end = longest(BASELINE)
    damaged = overwritten(BASELINE, (start + end) // 2, b"\xff\x00" * 20)
    for change in [*ODD.values(), *WITHOUT_END.values()]:
        assert status(change(damaged)) == "corrupt"


def with_bytes_before(data: bytes, markers: bytes, added: bytes) -> bytes:
    """Return a JPEG with bytes added before each of some markers in its first scan or behind."""
    start = scans(data)[0][0]
    return data[:start] + re.sub(b"(\xff[" + re.escape(markers) + b"])", added + b"\\1", data[start:])


@pytest.mark.parametrize("kind", ["restart markers", "restart markers in each row"])
def test_bytes_before_restart_markers_are_harmless_and_hide_nothing(kind: str) -> None:
    odd = with_bytes_before(KINDS[kind], b"\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7", b"\x12" * 40)
    intervals = re.split(rb"(\xff[\xd0-\xd7])", odd)
    late = len(intervals) // 4 * 2
    missing, bad = list(intervals), list(intervals)
    missing[late] = intervals[late][:3]
    bad[late] = b"\xff\x00" * 20 + intervals[late]

    assert np.array_equal(pixels(odd), by_pillow(KINDS[kind]))
    assert status(b"".join(missing)) == "truncated"
    assert status(b"".join(bad)) == "corrupt"
    assert status(b"".join(intervals[:late] + intervals[late + 4 :])) == "corrupt"
    assert status(b"".join(intervals[:late]) + EOI) == "truncated"


@pytest.mark.parametrize("kind", ["progressive", "grey and progressive", "three scans"])
def test_bytes_between_scans_are_harmless_and_hide_nothing(kind: str) -> None:
    odd = with_bytes_before(KINDS[kind], b"\xc4\xda", b"\x12" * 40)
    start, end = scans(odd)[-1]
    end -= 40 if odd[end - 1] == 0x12 else 0

    assert np.array_equal(pixels(odd), by_pillow(KINDS[kind]))
    assert status(odd[: (start + end) // 2] + EOI) == "truncated"


def test_wrong_parameters_of_a_sequential_scan_are_harmless_and_hide_nothing() -> None:
    start, end = longest(BASELINE)
    odd = BASELINE[: start - 3] + bytes(3) + BASELINE[start:]

    assert np.array_equal(pixels(odd), by_pillow(BASELINE))
    assert status(odd[: (start + end) // 2] + EOI) == "truncated"


# --- Images that look damaged and are not.


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"quality": 100}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_plain_images_are_ok_although_their_data_are_zeros(mode: str, options: dict[str, Any]) -> None:
    """The most frequent code of an optimized table is of zero bits: here the end of a block."""
    half = drawn(800, 1600).convert(mode)
    half.paste(200, (0, 0, 800, 1200)) if mode == "L" else half.paste((200, 90, 0), (0, 0, 800, 1200))
    for image in (Image.new(mode, (900, 700)), Image.new(mode, (900, 700), "white"), half):
        data = saved(image, "JPEG", **options)
        assert np.array_equal(pixels(data), by_pillow(data))
    assert bytes(64) in saved(Image.new("L", (900, 700)), "JPEG", optimize=True)


def saved_again() -> bytes:
    """Return a photo with a caption that was saved at a low quality before: most coefficients are even."""
    photo = Image.open(BytesIO(saved(Image.open(SAMPLES / "apple" / "apple-1.jpg"), "JPEG", quality=50)))
    photo.paste("white", (0, 0, photo.width, 40))
    ImageDraw.Draw(photo).text((2, 5), "Special offer, only today", fill="black")
    return saved(photo, "JPEG", quality=75, progressive=True)


def test_a_photo_that_is_saved_again_is_ok_although_its_refinement_has_many_zeros() -> None:
    data = saved_again()
    start, end = scans(data)[-1]
    assert bytes(64) in data[start:end].rstrip(b"\0")
    for whole in (data, data[:-2] + bytes(900) + EOI, data[:-2] + b"some more bytes" * 9 + EOI, data[:-2]):
        assert np.array_equal(pixels(whole), by_pillow(data))
    assert status(data[: end - 100] + EOI) == "truncated"
    assert status(data[:start] + data[end:]) == "truncated"


def test_stripes_and_gradients_are_ok_although_each_block_is_coded_as_zeros() -> None:
    """Stripes as wide as a block are the last of the five coefficients of a scan, -1 in each block."""
    stripes = drawn(256, 256).convert("L")
    stripes.paste(Image.fromarray(np.tile([123, 126, 130, 133, 133, 130, 126, 123], (232, 32)).astype(np.uint8)))
    for data in (saved(stripes, "JPEG", quality=75, progressive=True), GRADIENT):
        assert any(bytes(64) in data[start:end].rstrip(b"\0") for start, end in scans(data))
        assert np.array_equal(pixels(data), by_pillow(data))


def test_bytes_between_the_scans_of_an_image_with_a_plain_area_are_harmless() -> None:
    """The DC coefficients of the area are zeros, as data that were overwritten would be."""
    image = drawn(800, 800)
    image.paste((255, 255, 255), (0, 0, 800, 600))
    data = saved(image, "JPEG", progressive=True)

    assert np.array_equal(pixels(with_bytes_before(data, b"\xc4\xda", b"\x12" * 15)), by_pillow(data))


def test_zeros_in_metadata_and_behind_the_image_are_harmless() -> None:
    odd = BASELINE[:2] + b"\xff\xe5\x10\x00" + bytes(0x1000 - 2) + BASELINE[2:] + bytes(5000)
    assert np.array_equal(pixels(odd), by_pillow(BASELINE))


def test_a_progressive_image_may_have_fewer_scans_but_then_needs_its_end_marker() -> None:
    table = PROGRESSIVE.rindex(b"\xff\xc4")  # of the last scan, which adds the last bit of coefficients
    assert np.array_equal(pixels(PROGRESSIVE[:table] + EOI), by_pillow(PROGRESSIVE[:table] + EOI))
    assert not np.array_equal(pixels(PROGRESSIVE[:table] + EOI), by_pillow(PROGRESSIVE))
    assert status(PROGRESSIVE[:table]) == "truncated"
    assert status(PROGRESSIVE[: table + 9]) == "truncated"
    assert status(PROGRESSIVE[: table + 9] + EOI) in ("truncated", "corrupt")


@pytest.mark.parametrize("what", ARITHMETIC)
def test_a_jpeg_with_arithmetic_coding_needs_its_end_marker(what: str) -> None:
    """Its decoder cannot tell where the data end."""
    assert status(ARITHMETIC[what]) == "ok"
    assert status(ARITHMETIC[what][:-2]) == "truncated"
    assert status(ARITHMETIC[what][:-2] + bytes(100) + EOI) == "ok"


# --- Undecoded files for a GPU.


def plain(data: bytes) -> bool:
    return read_jpeg(FetchedFile("photo.jpg", data), replace(EXACT, decode="gpu")) is not None


def test_a_gpu_decodes_jpegs_that_seem_whole() -> None:
    kinds = {kind for kind, data in KINDS.items() if plain(data)}
    assert kinds == {
        "baseline", "optimized", "without subsampling", "restart markers in each row", "restart markers", "grey"
    }  # fmt: skip


def test_the_cpu_decodes_jpegs_whose_markers_show_damage() -> None:
    start, end = longest(BASELINE)
    first, second = RESTARTS.index(b"\xff\xd3"), RESTARTS.index(b"\xff\xd5")
    assert not plain(overwritten(BASELINE, (start + end) // 2, bytes(300)))
    assert not plain(overwritten(BASELINE, (start + end) // 2, b"\xff\x3a"))
    assert not plain(RESTARTS[:first] + RESTARTS[second:])
    assert not plain(RESTARTS[:first] + EOI)
    assert not plain(BASELINE[:-2])
    assert not plain(BASELINE + bytes(10))
