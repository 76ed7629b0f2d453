"""PNG, GIF, WebP, TGA, BMP, ICO and JPEG 2000: depths, transparency and frames are what the formats say.

The files are written by hand and the values follow from the specifications; where other programs differ, a comment
says why the specification decides.
"""

import io
import struct
import zlib

import numpy as np
import pytest
from formats import drawn, saved
from image_files import Array, bmp, chunk, gif, png, tga
from PIL import Image

from inception_cli.config import PRESETS, PixelConfig
from inception_cli.images.decode import Failure, FetchedFile, read

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # PNG colour types
SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
KINDS = [(colour_type, bits) for colour_type, depths in DEPTHS.items() for bits in depths]


def result(data: bytes, suffix: str) -> Image.Image | Failure:
    return read(FetchedFile(f"photo{suffix}", data), PixelConfig(PRESETS["torchvision"]))


def decoded(data: bytes, suffix: str = ".png") -> Array:
    image = result(data, suffix)
    assert isinstance(image, Image.Image), image
    assert image.mode == "RGB"
    return np.asarray(image)


def assert_close(data: bytes, expected: Array, suffix: str = ".png") -> None:
    """Assert that all values are within one level; the expected ones are not rounded."""
    assert np.abs(decoded(data, suffix) - expected).max() <= 1.0001


def random_numbers(bits: int, *shape: int) -> Array:
    return np.random.default_rng(bits).integers(0, 2**bits - 1, shape, np.uint64, endpoint=True)


# --- PNG.


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour_type", "bits"), KINDS)
def test_a_png_without_a_transparent_colour(colour_type: int, bits: int, interlaced: bool) -> None:
    samples = random_numbers(bits, 21, 19, SAMPLES[colour_type])
    palette = random_numbers(8, 2**bits, 3) if colour_type == PALETTE else None
    if palette is not None:
        expected = palette[samples[..., 0]]
    else:
        shares = samples / (2.0**bits - 1)
        alpha = shares[..., -1:] if colour_type in (GREY_ALPHA, RGBA) else 1
        expected = 255 * (shares[..., : 3 if SAMPLES[colour_type] > 2 else 1] * alpha + 1 - alpha)
    assert_close(png(samples, colour_type, bits, interlaced=interlaced, palette=palette), expected)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("further_bits", [False, True])
@pytest.mark.parametrize(("colour_type", "bits"), [kind for kind in KINDS if kind[0] in (GREY, RGB)])
def test_only_the_transparent_colour_of_a_png_is_white(
    colour_type: int, bits: int, further_bits: bool, interlaced: bool
) -> None:
    """Each pixel of this colour, and no other one, not even one with the same high or the same low bytes.

    PNG, 3rd edition, 11.3.2.1: a tRNS chunk holds 16 bits for each sample, of which a decoder uses the lowest, as many
    as the image has. ImageMagick 6.9.11 does not match colours with further bits; libpng masks them.
    """
    samples = random_numbers(bits, 21, 19, SAMPLES[colour_type])
    colour = samples[3, 4].copy()
    samples[10:14, 5:9] = colour
    if bits == 16:
        samples[15] = colour ^ 1
        samples[16] = colour ^ 256
    further = 0xFFFF << bits & 0xFFFF if further_bits and bits > 1 else 0  # of one bit Pillow says if any is set
    stored = [int(sample) | further for sample in colour]
    expected = np.broadcast_to(255 * samples / (2.0**bits - 1), (21, 19, 3)).copy()
    expected[(samples == colour).all(axis=2)] = 255
    transparency = struct.pack(f">{len(stored)}H", *stored)
    assert_close(png(samples, colour_type, bits, interlaced=interlaced, transparency=transparency), expected)


@pytest.mark.parametrize("bits", [2, 4])
def test_a_transparent_grey_by_hand(bits: int) -> None:
    """In 2 bits 1 is the grey 85, in 4 bits 17; Pillow looks for the grey 1, which no pixel has."""
    samples = np.array([[[0], [1], [2], [3]]])
    white = 2**bits - 1
    expected = [0, 255, 510 // white, 765 // white]
    assert decoded(png(samples, GREY, bits, transparency=b"\0\1"))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("entries", [1, 2, "all"])
@pytest.mark.parametrize("bits", DEPTHS[PALETTE])
def test_a_short_transparency_chunk_leaves_the_other_colours_opaque(
    bits: int, entries: int | str, interlaced: bool
) -> None:
    palette, samples = random_numbers(8, 2**bits, 3), random_numbers(bits, 21, 19, 1)
    alpha = random_numbers(8, 2**bits if entries == "all" else int(entries)).astype(np.uint8)
    data = png(samples, PALETTE, bits, interlaced=interlaced, palette=palette, transparency=alpha.tobytes())
    shares = np.pad(alpha, (0, 2**bits - len(alpha)), constant_values=255)[samples] / 255
    assert_close(data, palette[samples[..., 0]] * shares + 255 * (1 - shares))


@pytest.mark.parametrize(("colour_type", "bits"), [(GREY, 4), (GREY, 16), (RGB, 16), (RGB, 8), (PALETTE, 8)])
def test_a_transparent_colour_behind_the_pixels_is_ignored(colour_type: int, bits: int) -> None:
    """It must be before them; libpng calls it out of place and ignores it."""
    samples = np.zeros((4, 5, SAMPLES[colour_type]), np.uint16)
    palette = np.zeros((4, 3)) if colour_type == PALETTE else None
    behind = chunk(b"tRNS", bytes(2 * samples.shape[2]))
    assert not decoded(png(samples, colour_type, bits, palette=palette, behind=behind)).any()


def test_alpha_of_16_bits_is_exact() -> None:
    """Samples whose low bytes, if dropped, would change a value by two."""
    samples = np.array([[[0x00FF, 0x00FF, 0x00FF, 0xFE00], [0xFF, 0xFF, 0xFF, 0x80FF]]], np.uint16)
    shares = samples / 65535
    expected = 255 * (shares[..., :3] * shares[..., 3:] + 1 - shares[..., 3:])
    assert np.abs(decoded(png(samples, RGBA, 16)) - expected).max() <= 0.51


def test_opaque_16_bit_pixels_have_their_high_bytes_as_before() -> None:
    samples = random_numbers(16, 9, 9, 4)
    samples[..., 3] = 65535
    assert np.array_equal(decoded(png(samples, RGBA, 16)), samples[..., :3] >> 8)
    assert np.array_equal(decoded(png(samples[..., :3], RGB, 16)), samples[..., :3] >> 8)


def test_a_png_for_ios_is_unsupported() -> None:
    """Xcode's PNGs begin with a CgBI chunk; their data have no zlib header, and blue comes first."""
    data = png(random_numbers(8, 9, 9, 4), RGBA, 8)
    header, start = data[:8], data[8:]
    failure = result(header + chunk(b"CgBI", b"\x50\0\x20\x02") + start, ".png")
    assert isinstance(failure, Failure)
    assert (failure.status, "CgBI" in failure.error) == ("unsupported", True)


def animation(frame: tuple[int, int, int, int], first_is_default: bool) -> bytes:
    """Return an APNG of 8 × 6, whose first frame has (width, height, x, y); the default image is blue."""
    control = struct.pack(">IIIIIHHBB", 0, *frame, 1, 10, 0, 0)
    red = zlib.compress(b"".join(b"\0" + b"\xff\0\0" * frame[0] for _ in range(frame[1])))
    fdat = b"" if first_is_default else chunk(b"fcTL", control) + chunk(b"fdAT", struct.pack(">I", 1) + red)
    before = chunk(b"acTL", struct.pack(">II", 1, 0)) + (chunk(b"fcTL", control) if first_is_default else b"")
    blue = np.full((6, 8, 3), [0, 0, 255])
    return png(blue, RGB, 8, before=before, behind=fdat)


@pytest.mark.parametrize("first_is_default", [False, True])
@pytest.mark.parametrize("frame", [(8, 6, 0, 0), (3, 2, 4, 1)])
def test_the_default_image_of_an_animated_png_is_decoded(
    frame: tuple[int, int, int, int], first_is_default: bool
) -> None:
    """It is as large as the header says, even if a frame that is smaller, against the specification, refers to it."""
    assert np.array_equal(decoded(animation(frame, first_is_default)), np.full((6, 8, 3), [0, 0, 255]))


def filled_with_zeros(data: bytes, start: int, end: int) -> bytes:
    return data[:start] + bytes(end - start) + data[end:]


def assert_damaged(data: bytes, suffix: str, status: str = "corrupt") -> None:
    failure = result(data, suffix)
    assert isinstance(failure, Failure)
    assert failure.status == status


@pytest.mark.parametrize("kept", [0, 12, 16])
@pytest.mark.parametrize("place", [0.2, 0.5, 0.9, 0.97])
def test_a_png_whose_rest_is_zeros_is_damaged(place: float, kept: int) -> None:
    """As of a download into a file of its final size. zlib can decode the zeros; `kept` bytes at the end are right."""
    pixels = drawn()
    for image in (pixels, pixels.convert("L"), pixels.quantize(200), pixels.convert("RGBA")):
        data = saved(image, "PNG")
        assert_damaged(filled_with_zeros(data, int(place * len(data)), len(data) - kept), ".png")
    icon = saved(drawn(64, 64), "ICO", sizes=[(64, 64)])
    assert_damaged(filled_with_zeros(icon, int(place * len(icon)), len(icon) - kept), ".ico")


def test_only_the_checksums_of_the_image_count() -> None:
    """Each chunk has one; those behind the pixels of the default image are not read."""
    pixels = random_numbers(8, 9, 9, 3)
    wrong = chunk(b"tEXt", b"Comment\0a")[:-1] + b"?"
    data = png(pixels, RGB, 8, before=wrong, behind=wrong + wrong)
    assert np.array_equal(decoded(data), pixels)
    assert np.array_equal(decoded(data[: data.index(b"IEND") - 4]), pixels)
    at = data.index(b"IDAT") + 4 + int.from_bytes(data[data.index(b"IDAT") - 4 : data.index(b"IDAT")])
    assert np.array_equal(decoded(data[:at]), pixels)  # the end of the file cuts off its checksum
    assert_damaged(data[:at] + b"????" + data[at + 4 :], ".png")


@pytest.mark.parametrize("part", [0, 0.5, 0.9])
def test_a_png_with_too_few_data_before_its_end_chunk_is_truncated(part: float) -> None:
    data = saved(drawn(), "PNG")
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start])
    stream = data[start + 4 : start + 4 + int(part * length)]
    assert_damaged(data[: start - 4] + chunk(b"IDAT", stream) + data[start + 8 + length :], ".png", "truncated")


# --- QOI.


def test_a_qoi_whose_rest_is_zeros_is_damaged() -> None:
    """A zero is the first of the colours before; the file ends in seven zeros and a one."""
    data = saved(drawn(), "QOI")
    pixels = np.asarray(drawn())
    for place in (0.2, 0.9, 0.99):
        assert_damaged(filled_with_zeros(data, int(place * len(data)), len(data)), ".qoi")
    for whole in (data, data + bytes(500), data + b"text"):
        assert np.array_equal(decoded(whole, ".qoi"), pixels)


# --- GIF and WebP.


@pytest.mark.parametrize("colours", [2, 4, 16, 256])
@pytest.mark.parametrize("transparent", [None, 1])
@pytest.mark.parametrize("background", [0, 1])
def test_a_frame_smaller_than_its_screen_has_white_around(
    colours: int, transparent: int | None, background: int
) -> None:
    """As browsers on a white page show it. GIF89a (section 18) has a background colour, which no browser paints."""
    palette = random_numbers(8, colours, 3) // 2
    pixels = random_numbers((colours - 1).bit_length(), 5, 4)
    data = gif(pixels, palette, (11, 9), (3, 2), transparent, background)
    expected = np.full((9, 11, 3), 255, np.uint8)
    expected[2:7, 3:7] = np.where(pixels[..., None] == transparent, 255, palette[pixels])
    assert np.array_equal(decoded(data, ".gif"), expected)


def test_a_frame_as_large_as_its_screen_is_unchanged() -> None:
    palette, pixels = random_numbers(8, 16, 3), random_numbers(4, 9, 11)
    assert np.array_equal(decoded(gif(pixels, palette, (11, 9)), ".gif"), palette[pixels])


def webp_animation(has_alpha: bool) -> bytes:
    """Return a WebP of 20 × 16, whose only frame is red, 8 × 6, at (4, 2): the container by hand."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 0, 0)).save(stream, "WEBP", lossless=True)
    pixels = stream.getvalue()[12:]

    def number(value: int) -> bytes:
        return struct.pack("<I", value)[:3]

    def riff(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)

    flags = bytes([0x02 | (0x10 if has_alpha else 0), 0, 0, 0])
    body = riff(b"VP8X", flags + number(19) + number(15)) + riff(b"ANIM", bytes(6))
    body += riff(b"ANMF", number(2) + number(1) + number(7) + number(5) + number(100) + b"\2" + pixels)
    return riff(b"RIFF", b"WEBP" + body)


@pytest.mark.parametrize("has_alpha", [False, True])
def test_a_smaller_first_frame_of_a_webp_has_white_around(has_alpha: bool) -> None:
    expected = np.full((16, 20, 3), 255)
    expected[2:8, 4:12] = [200, 0, 0]
    assert np.array_equal(decoded(webp_animation(has_alpha), ".webp"), expected)


@pytest.mark.parametrize("options", [{}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}])
def test_a_lossy_webp_with_zeros_in_place_of_data_is_damaged(options: dict[str, bytes]) -> None:
    data = saved(drawn(400, 300), "WEBP", **options)
    end = data.index(b"VP8 ") + 8 + int.from_bytes(data[data.index(b"VP8 ") + 4 :][:4], "little")
    decoded(data, ".webp")
    for place in (0.2, 0.5, 0.8):
        assert_damaged(filled_with_zeros(data, int(place * end), len(data)), ".webp")
        assert_damaged(filled_with_zeros(data, int(place * end), end - 12), ".webp")
    decoded(data + bytes(5000), ".webp")


@pytest.mark.parametrize("colour", ["black", "white", "navy"])
def test_a_plain_webp_is_whole(colour: str) -> None:
    for size in ((16, 16), (700, 700), (1, 4000)):
        for quality in (80, 100):
            decoded(saved(Image.new("RGB", size, colour), "WEBP", method=0, quality=quality), ".webp")


# --- TGA.


def blended(rgba: Array) -> Array:
    """Return colours over white, by their alpha of 8 bits."""
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize(
    ("attribute_bits", "attributes_type", "has_alpha"),
    [(8, None, True), (8, 3, True), (0, None, False), (8, 0, False), (8, 1, False), (8, 2, False), (0, 3, False)],
)
def test_the_header_of_a_tga_says_whether_it_has_alpha(
    attribute_bits: int, attributes_type: int | None, has_alpha: bool
) -> None:
    """Bits 3 to 0 of the image descriptor (field 5.6); the attributes type (field 24), where 0 to 2 mean no alpha."""
    pixels = random_numbers(32, 9, 7)
    rgba = np.stack([pixels >> shift & 255 for shift in (16, 8, 0, 24)], axis=-1)
    data = tga(pixels, 32, attribute_bits, attributes_type)
    assert_close(data, blended(rgba) if has_alpha else rgba[..., :3], ".tga")


def test_the_colours_of_a_tga_can_be_multiplied_by_alpha() -> None:
    pixels = np.array([[0x80402010, 0xFF804020, 0x00000000]])
    expected = [[[64 + 127, 32 + 127, 16 + 127], [128, 64, 32], [255, 255, 255]]]
    assert_close(tga(pixels, 32, 8, 4), np.array(expected), ".tga")


@pytest.mark.parametrize("attributes_type", [None, 3])
def test_a_tga_without_a_visible_pixel_is_opaque(attributes_type: int | None) -> None:
    """As Truevision's own example ctc32.tga; ImageMagick shows nothing."""
    pixels = random_numbers(24, 9, 7)
    rgb = np.stack([pixels >> shift & 255 for shift in (16, 8, 0)], axis=-1)
    assert np.array_equal(decoded(tga(pixels, 32, 8, attributes_type), ".tga"), rgb)


@pytest.mark.parametrize(
    ("attribute_bits", "alpha_bit", "white"),
    [(0, 0, False), (0, 1, False), (1, 0, False), (1, 1, False), (1, None, True)],
)
def test_the_attribute_bit_of_a_16_bit_tga(attribute_bits: int, alpha_bit: int | None, white: bool) -> None:
    """The header says whether there is one; set, it is transparent (as to GIMP and ImageMagick), unless all are set."""
    pixels = random_numbers(15, 9, 7)
    rgb = np.stack([pixels >> shift & 31 for shift in (10, 5, 0)], axis=-1) * 255 / 31
    set_bits = np.full((9, 7), alpha_bit) if alpha_bit is not None else np.indices((9, 7)).sum(axis=0) % 2
    if white:
        rgb[set_bits == 1] = 255
    assert_close(tga(pixels | (set_bits.astype(np.uint64) << np.uint64(15)), 16, attribute_bits), rgb, ".tga")


# --- BMP and ICO.

BGRA = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
MASKS = [
    (16, (0x7C00, 0x3E0, 0x1F), 40),
    (16, (0xF800, 0x7E0, 0x1F), 40),
    (16, (0xF00, 0xF0, 0xF), 40),
    (16, (0xF00, 0xF0, 0xF, 0xF000), 56),
    (16, (0x7C00, 0x3E0, 0x1F, 0x8000), 124),
    (32, BGRA[:3], 40),
    (32, BGRA, 56),
    (32, BGRA, 108),
    (32, (0xFF, 0xFF00, 0xFF0000, 0), 108),
    (32, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000), 124),
]


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize(("bits", "masks", "header"), MASKS)
def test_the_masks_of_a_bmp(bits: int, masks: tuple[int, ...], header: int, downwards: bool) -> None:
    pixels = random_numbers(bits, 9, 7)
    shares = [(pixels & mask) / mask if mask else np.ones(pixels.shape) for mask in masks]
    rgba = 255 * np.stack([*shares, np.ones(pixels.shape)][:4], axis=-1)
    data = bmp(pixels, bits, masks=masks, header=header, compression=3, downwards=downwards)
    assert_close(data, blended(rgba), ".bmp")


@pytest.mark.parametrize(("bits", "masks", "header"), [mask for mask in MASKS if len(mask[1]) == 4 and mask[1][3]])
def test_a_bmp_without_a_visible_pixel_is_opaque(bits: int, masks: tuple[int, ...], header: int) -> None:
    """As Windows shows it; ImageMagick shows nothing."""
    pixels = random_numbers(bits, 9, 7) & ~np.uint64(masks[3])
    rgb = 255 * np.stack([(pixels & mask) / mask for mask in masks[:3]], axis=-1)
    assert_close(bmp(pixels, bits, masks=masks, header=header, compression=3), rgb, ".bmp")


@pytest.mark.parametrize("header", [40, 108])
def test_without_masks_the_fourth_byte_of_a_bmp_is_not_alpha(header: int) -> None:
    """BITMAPINFOHEADER, biBitCount 32: "The high byte in each DWORD is not used"."""
    pixels = random_numbers(32, 9, 7)
    rgb = np.stack([pixels >> shift & 255 for shift in (16, 8, 0)], axis=-1)
    assert np.array_equal(decoded(bmp(pixels, 32, header=header), ".bmp"), rgb)


@pytest.mark.parametrize("colours", [2, 3, 16, 256])
@pytest.mark.parametrize("kind", ["random", "grey", "black and white"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_palette_of_a_bmp_has_fewer_colours_than_its_depth_allows(bits: int, kind: str, colours: int) -> None:
    """Pillow reads the pixels of 4 and 8 bits as single bits if the palette is black and white."""
    colours = min(colours, 2**bits)
    palette = random_numbers(8, colours, 3)
    if kind != "random":
        palette = np.linspace(0, 255 if kind == "black and white" else colours - 1, colours).astype(int)[:, None]
        palette = np.repeat(palette, 3, axis=1)
    pixels = np.random.default_rng(bits).integers(0, colours, (9, 7))
    assert np.array_equal(decoded(bmp(pixels, bits, palette=palette), ".bmp"), palette[pixels])


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("BMP compression (4)", bmp(random_numbers(24, 4, 4), 24, compression=4)),
        ("BMP pixel depth (64)", bmp(random_numbers(64, 4, 4), 64)),
        ("masks with gaps", bmp(random_numbers(16, 4, 4), 16, masks=(0x5000, 0xF0, 0xF), compression=3)),
        ("no mask for a colour", bmp(random_numbers(16, 4, 4), 16, masks=(0xF00, 0, 0xF), compression=3)),
    ],
)
def test_other_bmps_are_unsupported(reason: str, data: bytes) -> None:
    failure = result(data, ".bmp")
    assert isinstance(failure, Failure)
    assert (failure.status, reason in failure.error) == ("unsupported", True)


@pytest.mark.parametrize("masked", ["none", "some", "all"])
@pytest.mark.parametrize("alpha", ["none", "some"])
def test_the_mask_of_an_icon_counts_if_its_alpha_is_zero(alpha: str, masked: str) -> None:
    """As Windows and browsers show it: otherwise the alpha alone counts."""
    colours = random_numbers(24, 16, 16)
    alphas = random_numbers(8, 16, 16) * (alpha == "some")
    mask = np.indices((16, 16)).sum(axis=0) % 3 == 0 if masked == "some" else np.full((16, 16), masked == "all")
    dib = bmp(colours | (alphas << np.uint64(24)), 32)[14:]
    rows = b"".join(np.packbits(row).tobytes() + bytes(2) for row in mask[::-1])
    image = dib[:8] + struct.pack("<i", 32) + dib[12:] + rows  # the height counts both
    data = struct.pack("<3H4B2H2I", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(image), 22) + image
    rgb = np.stack([colours >> shift & 255 for shift in (16, 8, 0)], axis=-1).astype(float)
    if alpha == "some":
        rgb = blended(np.concatenate([rgb, alphas[..., None]], axis=-1))
    elif masked == "some":
        rgb[mask] = 255
    assert_close(data, rgb, ".ico")


# --- JPEG 2000.


@pytest.mark.parametrize("bits", [1, 4, 7, 8])
def test_samples_of_a_jpeg_2000_are_scaled(bits: int) -> None:
    """Written with 8 bits; then the header says that there are fewer: half their range is subtracted, not 128."""
    samples = random_numbers(bits, 32, 32)
    stream = io.BytesIO()
    Image.fromarray((samples + 128 - 2 ** (bits - 1)).astype(np.uint8)).save(stream, "JPEG2000", no_jp2=True)
    data = bytearray(stream.getvalue())
    assert data[42] == 7
    data[42] = bits - 1
    assert_close(bytes(data), 255 * samples[..., None] / (2**bits - 1), ".j2k")


def test_the_alpha_of_a_jpeg_2000_can_have_one_bit() -> None:
    """Pillow takes its 1 for 128 of 255."""
    visible = np.indices((32, 32)).sum(axis=0) % 2
    image = Image.merge("LA", [Image.new("L", (32, 32), 40), Image.fromarray((visible + 127).astype(np.uint8))])
    stream = io.BytesIO()
    image.save(stream, "JPEG2000")
    data = bytearray(stream.getvalue())
    data[data.index(b"\xff\x4f\xff\x51") + 45] = 0
    assert_close(bytes(data), np.where(visible, 40, 255)[..., None], ".jp2")


# --- Other formats.


@pytest.mark.parametrize(
    ("data", "name", "suffix"),
    [
        (b"PF\n4 4\n-1.0\n" + bytes(192), "colour PFM", ".pfm"),
        (b"P7\nWIDTH 1\n" + bytes(99), "PAM", ".pam"),
        (b"v/1\x01" + bytes(99), "OpenEXR", ".tif"),
        (b"#?RADIANCE\n" + bytes(99), "Radiance HDR", ".tif"),
        (b"II\xbc\x01" + bytes(99), "JPEG XR", ".tif"),
    ],
)
def test_other_formats_are_named(data: bytes, name: str, suffix: str) -> None:
    failure = result(data, suffix)
    assert failure == Failure("unsupported", f"{name} files are not supported; convert it to JPEG or PNG")


def test_a_grey_pfm_is_scaled() -> None:
    """Rows go upwards; a negative scale says that the numbers are little-endian."""
    data = b"Pf\n2 2\n-1.0\n" + struct.pack("<4f", 0, 0.5, 1, 0.25)
    assert decoded(data, ".pfm")[..., 0].tolist() == [[255, 64], [0, 128]]
