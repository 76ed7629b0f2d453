"""Ten kinds of groceries as solids: each function makes one piece, defined by its surface and its colour."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Array = NDArray[Any]
Field = Callable[[Array], Array]
Rng = np.random.Generator


@dataclass(frozen=True)
class Solid:
    """A body in its own coordinates, y up: functions of points (3, N), which `stretch` scales."""

    surface: Field  # (N,), negative inside
    paint: Field  # (3, N), sRGB 0…1
    gloss: float
    stretch: tuple[float, float, float] = (1, 1, 1)
    relief: Field | None = None  # fine bumps, which only change the light
    box: tuple[float, float, float] = (1.1, 1.1, 1.1)  # half sides, before the stretch


# ── Building blocks ──────────────────────────────────────────────────────────────────────────────────────────────────


def rgb(digits: str) -> Array:
    return np.array([[int(digits[i : i + 2], 16) / 255] for i in (0, 2, 4)], np.float32)


def jitter(rng: Rng, colour: Array, amount: float = 0.05) -> Array:
    """Return a slightly different colour, as pieces differ."""
    return np.clip(colour * rng.normal(1, amount) + rng.normal(0, amount / 3, (3, 1)), 0.02, 1).astype(np.float32)


def noise(rng: Rng, frequency: float, waves: int = 6) -> Field:
    """Return a smooth random field of about -1…1: a sum of waves."""
    vectors = (rng.normal(size=(waves, 3)) * frequency).astype(np.float32)
    phases = rng.uniform(0, 6.28, (waves, 1)).astype(np.float32)
    return lambda p: np.asarray(np.cos(vectors @ p + phases).sum(0) / np.float32(waves**0.5))


def ramp(low: float, high: float, value: Array) -> Array:
    """Return 0 at `low`, 1 at `high`, smooth between and constant beyond; `low` may be the greater one."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def mix(a: Array, b: Array | str, share: Array) -> Array:
    """Return a colour between two colours, (3, 1) or (3, N)."""
    return np.asarray(a + ((rgb(b) if isinstance(b, str) else b) - a) * share)


def polar(p: Array) -> tuple[Array, Array, Array]:
    """Return radius, cosine of the angle from the top, and longitude."""
    r = np.sqrt((p * p).sum(0)) + 1e-6
    return r, p[1] / r, np.arctan2(p[0], p[2])


def union(*parts: Array) -> Array:
    """Return the distance to the union of bodies."""
    whole: Array = np.minimum.reduce(parts)
    return whole


def intersection(*parts: Array) -> Array:
    """Return the distance to the intersection of bodies."""
    shared: Array = np.maximum.reduce(parts)
    return shared


def stalk(p: Array, low: float, high: float, width: float, lean: float = 0.15) -> Array:
    """Return the distance to a stick near the axis."""
    y = np.clip(p[1], low, high)
    return np.asarray(np.sqrt((p[0] - lean * (y - low)) ** 2 + p[2] ** 2 + (p[1] - y) ** 2) - width)


# ── The ten classes: each function makes one piece; pieces of one kind are of one variety ────────────────────────────

SKINS = {  # varieties; main and second colour
    "apple": "d6cc5c/b81f24 9ec238/b2cc4c a83230/6a0d1f dbd16b/d8683a c7bd4c/cc3329",
    "banana": "f2c929/8fa833 e6cc38/8fa833 b8c23d/7f9f33 edbd33/a8a833",
    "carton": "e6e6e6/e6e6e6 2666b3/2666b3",
    "cucumber": "1f4a1b/6b8533 2b5a22/7a9440 33601f/86a04c",
    "melon": "5c8a42/1c3d1c cfc093/7e8a58 efcd3f/d09c2a d8cda6/b9b07c 3c6a34/1f3f20",
    "orange": "f58c10/f9b038 f2760f/f79a2c ee9e29/f4ba48 ea8040/f0a860",
    "pear": "929f36/a87c30 a9b34a/a98a3c a97a33/8a5a28 c2b84d/b08a3c",
    "pepper": "c8100f/e0341a f5c30f/e8a010 1f6619/2f7a1e f2730d/e89012",
    "potato": "c7a366/8a6a40 b38a52/7a5a36 d6b876/9a7a4c a8614a/7a4434",
    "tomato": "d21a0d/e8501c c20e0d/d8301a e23a10/ee6a22",
}


def apple(rng: Rng, kind: int, ground: Array, blush: Array) -> Solid:
    cover, patch, streak, dots = rng.normal(0, 0.4), noise(rng, 1.3), noise(rng, 5), noise(rng, 30, 14)

    def surface(p: Array) -> Array:
        r, c, turn = polar(p)
        skin = 0.93 + 0.05 * c - 0.42 * np.exp((c - 1) / 0.07) - 0.18 * np.exp((-1 - c) / 0.05)
        return union(r - skin - 0.025 * np.cos(5 * turn) * (1 - c) / 2, stalk(p, 0.3, 0.98, 0.045))

    def paint(p: Array) -> Array:
        _, c, turn = polar(p)
        stripes = streak(np.stack([3 * np.sin(turn), 0.3 * p[1], 3 * np.cos(turn)]))
        skin = mix(ground, blush, ramp(-0.8, 0.8, patch(p) + 0.4 * stripes + cover))
        skin = mix(mix(skin, "eee0a8", 0.35 * ramp(0.9, 1.6, dots(p))), "858033", 0.8 * ramp(0.93, 0.99, c))
        return mix(skin, "4c331a", 1.0 * (stalk(p, 0.3, 1.0, 0.07) < 0))

    return Solid(surface, paint, 0.35)


def banana(rng: Rng, kind: int, skin: Array, unripe: Array) -> Solid:
    spots, blotch = noise(rng, 18, 10), noise(rng, 3)

    def along(p: Array) -> tuple[Array, Array, Array]:
        y = p[1] + 0.8
        return np.arctan2(p[0], y), np.sqrt(p[0] ** 2 + y * y) - 1, p[2]

    def ridges(p: Array) -> Array:
        _, u, v = along(p)
        return np.asarray(np.cos(5 * np.arctan2(v, u)))

    def surface(p: Array) -> Array:
        t, u, v = along(p)
        body = 0.2 * np.sqrt(np.clip(1 - (t * t / 0.86) ** 2, 0, 1)) * ramp(1.0, 0.5, t)
        width = intersection(body, 0.055 * (np.abs(t - 0.1) < 0.95))
        return intersection(np.sqrt(u * u + v * v) - width, np.abs(t) - 1.05)

    def paint(p: Array) -> Array:
        t, _, _ = along(p)
        colour = mix(skin, unripe, 0.8 * ramp(0.5, 0.95, t) + 0.3 * ramp(-0.6, -0.85, t))
        colour = mix(colour, "b08a20", 0.3 * ramp(0.8, 1.0, ridges(p)))
        colour = mix(colour, "59380f", 0.5 * ramp(1.1, 1.7, spots(p) + 0.5 * blotch(p)))
        return mix(colour, "2b2012", intersection(ramp(-0.84, -0.9, t), ramp(0.98, 1.04, t)))

    return Solid(surface, paint, 0.12, relief=lambda p: -0.012 * ridges(p), box=(0.9, 0.5, 0.22))


@lru_cache(maxsize=64)
def label_of(kind: int) -> Array:
    """Return the printed side of a carton, (160, 80, 3)."""
    rng = np.random.default_rng([kind, 1])
    inks = [f"#{ink}" for ink in rng.permutation(["1f479e", "cc1f24", "1a8047", "f5cc33", "f2851a", "20242c"])]
    words = rng.permutation(
        ["MILK", "OAT", "JUICE", "YOGHURT", "CREAM", "SOY", "eko", "fresh", "natural", "1 L", "3 %"]
    )
    image = Image.new("RGB", (80, 160), "#eeece4" if rng.random() < 0.7 else inks[1])
    pen, edge = ImageDraw.Draw(image), int(rng.integers(85, 125))
    pen.polygon([(0, edge), (80, edge - int(rng.integers(-25, 25))), (80, 160), (0, 160)], fill=inks[0])
    pen.rectangle((0, 0, 80, int(rng.integers(20, 48))), fill=inks[int(rng.integers(0, 3))])
    for x, y, r in rng.integers((10, 95, 8), (70, 145, 18), (int(rng.integers(1, 5)), 3)).tolist():
        pen.ellipse((x - r, y - r, x + r, y + r), fill=inks[3 + r % 2])
    pen.ellipse((26, 22, 54, 42), fill=inks[2], outline="white")
    for y, word, points, ink in (
        (64, words[0], 22 if len(words[0]) < 6 else 16, "#14192a"),
        (86, words[1], 14, inks[0]),
        (150, words[2], 10, "white"),
    ):
        pen.text((40, y), str(word), fill=ink, font=ImageFont.load_default(points), anchor="mm")
    return np.asarray(image, np.float32) / 255


def carton(rng: Rng, kind: int, cap: Array, _: Array) -> Solid:
    label, gable = label_of(kind), kind % 3 != 0
    slope, deep, screw_at = (1.0, 0.42, (0.78, 0.24)) if gable else (0.12, 0.30, (0.70, 0.0))

    def screw(p: Array) -> Array:
        x, y, z = p[0], p[1] - screw_at[0], p[2] - screw_at[1]
        along = (y + z) * 0.7 if gable else y
        return intersection(np.sqrt(np.clip(x * x + y * y + z * z - along**2, 0, None)) - 0.13, np.abs(along) - 0.12)

    def surface(p: Array) -> Array:
        x, z = np.abs(p[0]) - 0.42, np.abs(p[2]) - deep
        box = intersection(x, z, -1 - p[1], (p[1] - 0.62 + slope * z) / (1 + slope))
        fin = intersection(x, np.abs(p[2]) - 0.03, np.abs(p[1] - 0.95) - 0.17)
        return union(box, fin if gable else box, screw(p))

    def paint(p: Array) -> Array:
        front = (np.abs(np.abs(p[2]) - deep) < np.abs(np.abs(p[0]) - 0.42)) | (p[1] > 0.62)
        across = np.where(front, p[0] / 0.84, -p[2] / deep / 2)
        row = np.clip((0.62 - p[1]) / 1.62 * 160, 0, 159).astype(int)
        printed = label[row, np.clip((across + 0.5) * 80, 0, 79).astype(int)].T
        return mix(printed * np.where(front, 1, 0.9), cap, 1.0 * (screw(p) < 0.02))

    return Solid(surface, paint, 0.12, box=(0.45, 1.15, 0.48))


def cucumber(rng: Rng, kind: int, skin: Array, pale: Array) -> Solid:
    width, bend = (0.15, 0.17, 0.21)[kind % 3] * rng.uniform(0.9, 1.1), rng.normal(0, 0.5)
    fleck, warts, wave, bumps = noise(rng, 9, 14), noise(rng, 6, 14), noise(rng, 1.5), (-0.07, -0.07, 0)[kind % 3]

    def surface(p: Array) -> Array:
        x, y, z = p[0] + bend * (p[1] ** 2 - 0.4), p[1], p[2]
        size = 1 - 0.25 * ramp(0.5, 1.0, y) - 0.1 * ramp(-0.6, -1.0, y) + 0.04 * np.cos(8 * np.arctan2(x, z))
        end = (y - np.clip(y, -0.9, 0.88)) / width
        tip = np.sqrt((x + 0.4 * bend) ** 2 + z * z) - 0.25 + (np.abs(y - 1) > 0.08)
        return union(np.sqrt(x * x + z * z + end**2) - size, tip)

    def paint(p: Array) -> Array:
        turn = np.arctan2(p[0] + bend * (p[1] ** 2 - 0.4), p[2])
        light = ramp(0.2, 1.0, np.cos(8 * turn + 2 * wave(p))) * ramp(0.6, -0.9, p[1])
        colour = mix(skin, pale, 0.5 * light + 0.3 * ramp(0.7, 1.6, fleck(p)))
        return mix(colour, "9e945c", intersection(ramp(0.98, 1.04, p[1]), ramp(-1.0, -1.06, p[1])))

    return Solid(surface, paint, 0.3, (width, 1, width), lambda p: bumps * warts(p), (1.4 + abs(bend), 1.1, 1.2))


def melon(rng: Rng, kind: int, skin: Array, dark: Array) -> Solid:
    variety = kind % 5  # striped, ribbed and netted, yellow, pale, dark
    warp, cells, fine = noise(rng, 3), noise(rng, 12, 10), noise(rng, 24, 14)

    def surface(p: Array) -> Array:
        r, c, turn = polar(p)
        ribs = 0.03 * np.abs(np.cos(5 * turn)) * (1 - c * c) if variety == 1 else 0
        return union(r - 0.94 - ribs, stalk(p, 0.8, 1.02, 0.05))

    def paint(p: Array) -> Array:
        _, c, turn = polar(p)
        stripes, net = np.cos((7 if variety == 0 else 9) * turn + 1.2 * warp(p)), ramp(0.3, 0.05, np.abs(cells(p)))
        if variety in (0, 4):
            share = intersection(ramp(-0.1, 0.5, stripes + 0.5 * cells(p)), 0.4 * ramp(0.2, 1.2, fine(p)))
        else:
            share = 0.9 * ramp(0.25, 0.1, np.abs(np.cos(5 * turn))) if variety == 1 else 0.3 + 0.3 * warp(p)
        colour = mix(skin, dark, share)
        colour = mix(colour, "e2d8b0", 0.55 * net) if variety in (1, 3) else colour
        return mix(colour, "735c33", ramp(0.985, 0.995, c))

    return Solid(surface, paint, (0.35, 0.05, 0.2, 0.06, 0.4)[variety], (1, rng.uniform(1, 1.12), 1))


def orange(rng: Rng, kind: int, skin: Array, pale: Array) -> Solid:
    tone, pores = noise(rng, 1.5), noise(rng, 30, 20)

    def surface(p: Array) -> Array:
        r, c, _ = polar(p)
        return r - 0.96 + 0.06 * np.exp((c - 1) / 0.01) + 0.03 * np.exp((-1 - c) / 0.004)

    def paint(p: Array) -> Array:
        _, c, turn = polar(p)
        body = mix(mix(skin, pale, 0.5 * ramp(0, 1.4, tone(p))), "b8560a", 0.25 * ramp(0.4, 1.4, pores(p)))
        return mix(body, "5c6b29", ramp(0.985, 0.992, c + 0.004 * np.cos(5 * turn)))

    return Solid(surface, paint, 0.22, (1, (0.96, 0.84)[kind % 2], 1), lambda p: 0.004 * pores(p))


def pear(rng: Rng, kind: int, skin: Array, rust: Array) -> Solid:
    neck, lean, patch, dots = rng.uniform(0.42, 0.6), rng.normal(0, 0.1), noise(rng, 2), noise(rng, 28, 14)

    def surface(p: Array) -> Array:
        across = (p[0] - lean * np.clip(p[1], 0, None)) ** 2 + p[2] ** 2
        bottom, top = np.sqrt(across + (p[1] + 0.36) ** 2) - 0.64, np.sqrt(across + (p[1] - neck) ** 2) - 0.27
        blend = np.clip(0.5 + (top - bottom) / 0.9, 0, 1)
        body = top + (bottom - top) * blend - 0.45 * blend * (1 - blend)
        return union(body, stalk(p, neck, neck + 0.52, 0.035, 0.2 + lean))

    def paint(p: Array) -> Array:
        body = mix(skin, rust, 0.8 * ramp(0.0, 1.2, patch(p) + 0.6 * ramp(0.3, 0.8, p[1]) - 0.1))
        body = mix(body, "574d1a", 0.4 * ramp(0.9, 1.6, dots(p)))
        return mix(body, "422b17", ramp(neck + 0.27, neck + 0.33, p[1]))

    return Solid(surface, paint, 0.15, box=(0.75, 1.15, 0.75))


def pepper(rng: Rng, kind: int, skin: Array, second: Array) -> Solid:
    lobes, start, tone, bulge = int(rng.integers(3, 5)), rng.uniform(0, 6), noise(rng, 2), noise(rng, 1.6, 4)

    def surface(p: Array) -> Array:
        r, c, turn = polar(p)
        crease = 1 - np.abs(np.sin(turn * lobes / 2 + start))
        square = (c**4 + (1 - c * c) ** 2) ** -0.25  # between a sphere and a cylinder
        skin = 0.86 * square * (1 - 0.17 * crease**2) * (1 + 0.08 * c) + 0.03 * bulge(p)
        dimple = 0.34 * np.exp((c - 1) / 0.1) + 0.2 * np.exp((-1 - c) / 0.08)
        return union(r - skin + dimple, stalk(p, 0.4, 1.05, 0.1, 0.25))

    def paint(p: Array) -> Array:
        _, c, turn = polar(p)
        crown = ramp(0.955, 0.97, c + 0.012 * np.cos(lobes * turn))
        green = intersection(crown, ramp(0.06, 0.03, stalk(p, 0.4, 1.1, 0.1, 0.25)))
        return mix(mix(skin, second, 0.6 * ramp(-0.5, 1.3, tone(p))), "477524", green)

    return Solid(surface, paint, 0.9, (0.88, rng.uniform(1, 1.15), 0.88), box=(1.15, 1.15, 1.15))


def potato(rng: Rng, kind: int, skin: Array, earth: Array) -> Solid:
    bumps, dirt, specks, eyes = noise(rng, 1.8, 4), noise(rng, 4), noise(rng, 26, 14), rng.normal(size=(3, 8))
    eyes = (eyes / np.linalg.norm(eyes, axis=0)).T.astype(np.float32)

    def eye(p: Array) -> Array:
        return ramp(0.98, 0.998, np.max(eyes @ p, axis=0) / polar(p)[0])

    def surface(p: Array) -> Array:
        return polar(p)[0] - 0.95 + 0.08 * bumps(p)

    def paint(p: Array) -> Array:
        body = mix(skin, earth, 0.6 * ramp(0, 1.4, dirt(p)) + 0.35 * ramp(0.7, 1.5, specks(p)))
        return mix(body, "52381f", 0.5 * eye(p))

    stretch = (rng.uniform(0.62, 0.85), 1, rng.uniform(0.6, 0.75))
    return Solid(surface, paint, 0.05, stretch, lambda p: 0.06 * eye(p), (1.15, 1.15, 1.15))


def tomato(rng: Rng, kind: int, skin: Array, pale: Array) -> Solid:
    tone, sepals, ribs = noise(rng, 1.5), int(rng.integers(5, 7)), (0.0, 0.02, 0.035)[kind % 3]

    def calyx(p: Array) -> Array:
        _, c, turn = polar(p)
        return ramp(0, 0.12, 0.72 * np.abs(np.cos(turn * sepals / 2)) ** 3 + 0.1 - np.arccos(np.clip(c, -1, 1)))

    def surface(p: Array) -> Array:
        r, c, turn = polar(p)
        dent = 0.16 * np.exp((c - 1) / 0.08) + ribs * np.abs(np.sin(turn * 4)) * (c + 1)
        return union(r - 0.96 + dent - 0.04 * calyx(p), stalk(p, 0.5, 1, 0.05, 0.3))

    def paint(p: Array) -> Array:
        green = intersection(calyx(p), ramp(0.05, 0.02, stalk(p, 0.6, 1.05, 0.05, 0.3)))
        return mix(mix(skin, pale, 0.5 * ramp(0.2, 1.4, tone(p))), "335c1a", green)

    return Solid(surface, paint, 0.75, (1, rng.uniform(0.78, 0.92), 1))


MAKERS = {f.__name__: f for f in (apple, banana, carton, cucumber, melon, orange, pear, pepper, potato, tomato)}
CLASSES: tuple[str, ...] = tuple(MAKERS)


def piece(name: str, rng: Rng, kind: int) -> Solid:
    """Return one piece of a class; those of the same kind look alike."""
    varieties = SKINS[name].split()
    ground, second = (jitter(rng, rgb(colour)) for colour in varieties[kind % len(varieties)].split("/"))
    return MAKERS[name](rng, kind, ground, second)
