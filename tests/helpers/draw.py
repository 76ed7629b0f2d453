"""Draw images of groceries: solids in a height field, lit, then photographed by a cheap camera.

python tests/helpers/draw.py DIR --per-class 100 --seed 7   # further images, one folder per class
python tests/helpers/draw.py --samples sample_images        # the sample images again
"""

import argparse
import io
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from solids import CLASSES, Array, Rng, Solid, jitter, piece, rgb

__all__ = ["CLASSES", "picture", "pictures", "write_pictures", "write_samples"]

Size = tuple[int, int]  # width, height
Point = tuple[float, float]


# ── The scene: one height field, lit once ────────────────────────────────────────────────────────────────────────────


def grid(size: Size) -> tuple[Array, Array]:
    """Return x and y of every pixel, (H, W) each."""
    y, x = np.indices(size[::-1], np.float32)
    return x, y


def rotation(nod: float, turn: float, roll: float) -> Array:
    """Return the rotation about y (turn), then x (nod), then in the image plane (roll)."""
    (a, b, c), (d, e, f) = np.cos([nod, turn, roll]), np.sin([nod, turn, roll])
    about_z, about_x = [[c, -f, 0], [f, c, 0], [0, 0, 1]], [[1, 0, 0], [0, a, -d], [0, d, a]]
    return np.array(np.array(about_z) @ about_x @ [[b, 0, e], [0, 1, 0], [-e, 0, b]], np.float32)


def box_blur(a: Array, radius: int) -> Array:
    """Return an array (H, W) after a box blur."""
    width = 2 * radius + 1
    for axis in (0, 1):
        ends, n = [(radius + 1, radius) if i == axis else (0, 0) for i in (0, 1)], a.shape[axis]
        total = np.cumsum(np.pad(a, ends, mode="edge"), axis, dtype=np.float64)
        a = (total.take(range(width, n + width), axis) - total.take(range(n), axis)) / width
    return np.asarray(a, np.float32)


class Scene:
    """Height, albedo, normal and gloss at every pixel."""

    def __init__(self, ground: Image.Image) -> None:
        self.albedo: Array = np.asarray(ground, np.float32) / 255
        self.height: Array = np.zeros(self.albedo.shape[:2], np.float32)
        self.normal: Array = np.full(self.albedo.shape, (0, 0, 1), np.float32)
        self.gloss: Array = np.full(self.height.shape, 0.03, np.float32)

    def put(self, solid: Solid, turn: Array, at: Point, radius: float, base: float) -> None:
        """Draw a solid whose unit is `radius` pixels, its centre `base` pixels high; higher points hide lower ones."""
        stretch, box = np.array([solid.stretch], np.float32).T, np.array([solid.box], np.float32).T
        wide, high = (np.abs(turn) @ (box * stretch))[:2, 0] * radius
        rows = np.arange(max(0, int(at[1] - high)), min(self.height.shape[0], int(at[1] + high) + 1))
        columns = np.arange(max(0, int(at[0] - wide)), min(self.height.shape[1], int(at[0] + wide) + 1))
        x, y = (v.ravel() for v in np.meshgrid(columns, rows))
        start = turn.T @ np.stack([(x - at[0]) / radius, (at[1] - y) / radius, 0 * x]).astype(np.float32) / stretch
        ray = (turn.T @ np.array([[0], [0], [1]], np.float32) + 1e-5) / stretch
        walls = np.stack([(-box - start) / ray, (box - start) / ray])
        far, near = walls.min(0).max(0), walls.max(0).min(0)
        hit = np.flatnonzero((near > far) & (near * radius + base > self.height[y, x]))
        if not hit.size:
            return
        start, far, near, x, y = start[:, hit], far[hit], near[hit], x[hit], y[hit]
        depth = near + (far - near) * np.linspace(0, 1, 12, dtype=np.float32)[:, None]
        values = solid.surface((start[:, None] + ray[:, :, None] * depth).reshape(3, -1)).reshape(depth.shape)
        seen = np.flatnonzero((values < 0).any(0))
        k = np.maximum(np.argmax(values[:, seen] < 0, axis=0), 1)
        before, after = values[k - 1, seen], values[k, seen]
        share = np.clip(before / np.maximum(before - after, 1e-6), 0, 1)
        z = depth[k - 1, seen] * (1 - share) + depth[k, seen] * share
        free = z * radius + base > self.height[y[seen], x[seen]]
        seen, z = seen[free], z[free]
        x, y, body = x[seen], y[seen], start[:, seen] + ray * z
        steps = [body + 0.02 * axis[:, None] / stretch for axis in np.eye(3, dtype=np.float32)]
        values = np.stack([solid.surface(q) + (solid.relief(q) if solid.relief else 0) for q in (body, *steps)])
        slope = values[1:] - values[0]
        self.height[y, x], self.gloss[y, x] = z * radius + base, solid.gloss
        self.normal[y, x] = (turn @ (slope / (np.sqrt((slope**2).sum(0)) + 1e-6))).T
        self.albedo[y, x] = np.clip(solid.paint(body), 0, 1).T

    def lit(self, rng: Rng) -> Image.Image:
        """Return the image under two lamps, with dark gaps and cast shadows."""
        gaps = sum(np.maximum(box_blur(self.height, r) - self.height, 0) / r for r in (4, 10, 24))
        sky, shade = np.exp(-0.55 * np.asarray(gaps)), np.zeros_like(self.height)
        aside, up = rng.uniform(-0.6, 0.6), rng.uniform(0.3, 0.8)
        columns, rows = grid((self.height.shape[1], self.height.shape[0]))
        for far in (2, 4, 7, 11, 16, 24, 34):
            at = np.clip(rows - far * up, 0, None), np.clip(columns + far * aside, 0, columns[0, -1])
            above = self.height[at[0].astype(int), at[1].astype(int)] - self.height
            shade = np.maximum(shade, np.clip((above - far) / 10, 0, 1))
        sun = 1 - 0.65 * box_blur(shade, 2)
        light, shine = 0.42 * sky * (0.7 + 0.3 * self.normal[..., 1]), np.zeros_like(sky)
        for lamp, power in (((aside, up, 1), 0.75), ((-1.5 * aside, 0.6 * up, 1), 0.3)):
            direction = np.array(lamp, np.float32) / np.linalg.norm(lamp)
            halfway = direction + np.array([0, 0, 1], np.float32)
            light += power * sun * np.clip((self.normal @ direction + 0.15) / 1.15, 0, 1) * (0.4 + 0.6 * sky)
            tight = np.clip(self.normal @ (halfway / np.linalg.norm(halfway)), 0, 1)
            shine += power * self.gloss * sun * (tight**60 + 0.12 * tight**10)
        colour = self.albedo**2.2 * light[..., None] + shine[..., None] * np.array([1, 0.98, 0.94], np.float32)
        return Image.fromarray((255 * np.clip(colour, 0, 1) ** (1 / 2.2)).astype(np.uint8))


# ── Grounds ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def clouds(rng: Rng, size: Size, cells: Size) -> Array:
    """Return smooth noise (H, W) of 0…1."""
    grid = Image.fromarray(rng.random((cells[1], cells[0]), np.float32))
    return np.asarray(np.clip(np.asarray(grid.resize(size, Image.Resampling.BICUBIC)), 0, 1))


def ground(rng: Rng, size: Size, kind: str) -> Image.Image:
    """Draw wood, tiles, cloth or the mesh of a crate."""
    x, y = grid(size)
    lean, side = rng.normal(0, 0.2), int(rng.integers(15, 30))
    u, v, shade = x + lean * y, y - lean * x, 0.8 + 0.35 * clouds(rng, size, (5, 5))
    if kind == "wood":
        warp = clouds(rng, size, (3, 9)) * 40 + clouds(rng, size, (24, 4)) * 5
        shade += 0.06 * np.sin(y * 0.9 + warp) + 0.15 * clouds(rng, size, (6, size[1] // 2)) - 0.15
        shade *= rng.uniform(0.85, 1.05, 40)[(y // (3 * side)).astype(int)] * np.where(y % (3 * side) < 2, 0.45, 1)
    elif kind == "tiles":
        shade -= 0.25 * ((u % (4 * side) < 3) | (v % (4 * side) < 3))
    elif kind == "cloth":
        shade -= 0.15 * ((u // side % 2) + (v // side % 2)) * rng.integers(0, 2) + 0.05 * np.sin(x * 2.1) * np.sin(
            y * 2.1
        )
    else:
        shade -= 0.4 * ((u % side < side * 0.6) & (v % side < side * 0.45))
    colours = {"wood": "b3855a 8a6040 c8a878", "tiles": "d1c7b8 b8b8b4", "cloth": "d9d4c7 738cb3 b86a66"}
    choice = rng.choice(colours.get(kind, "1a1a1c 1a1a1c 1f3a28 9e7a54 404247").split())
    colour = jitter(rng, rgb(choice), 0.07).ravel() * shade[..., None]
    return Image.fromarray((255 * np.clip(colour, 0, 1)).astype(np.uint8))


def shelf(rng: Rng, size: Size) -> Image.Image:
    """Draw packages in rows, out of focus."""
    image, y = Image.new("RGB", size, "#282624"), int(rng.integers(-40, 0))
    pen = ImageDraw.Draw(image)
    while y < size[1]:
        tall, x = int(rng.integers(50, 100)), -10
        while x < size[0]:
            wide, tone = int(rng.integers(16, 40)), rng.integers(50, 220)
            fill = tuple(int(c) for c in np.clip(tone + rng.normal(0, 20, 3), 20, 235))
            for _ in range(int(rng.integers(1, 4))):
                pen.rectangle((x, y + 6, x + wide - 2, y + tall), fill=fill)
                pen.rectangle((x + 4, y + tall // 3, x + wide - 6, y + tall // 2), fill="#d8d2c8")
                x += wide
        pen.rectangle((0, y + tall, size[0], y + tall + 9), fill="#b8b8b4")
        y += tall + 10
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(3, 7))))


# ── Arrangements and the camera ──────────────────────────────────────────────────────────────────────────────────────


def bunch(scene: Scene, name: str, rng: Rng, kind: int, at: Point, radius: float, base: float, roll: float) -> None:
    """Place a piece as its class lies or stands; bananas are joined at the crown."""
    any_way = rng.uniform(0, 6.28)
    if name == "banana":
        crown, first = np.array([0.84, -0.26, 0]), int(rng.integers(3, 6))
        for k in range(first):
            turn = rotation(rng.normal(0, 0.1), 0.25 * (k - 2), roll + 0.2 * k + rng.normal(0, 0.04))
            x, y, _ = turn @ crown
            scene.put(
                piece(name, rng, kind), turn, (at[0] - x * radius, at[1] + y * radius), radius, base + 0.08 * k * radius
            )
        return
    if name == "carton":
        turn = rotation(rng.uniform(0.05, 0.3), rng.uniform(-0.6, 0.6), rng.normal(0, 0.12))
    elif name == "cucumber":
        turn = rotation(rng.normal(0, 0.1), any_way, roll + rng.normal(0, 0.25))
    elif name == "pear":
        turn = rotation(rng.normal(0.3, 0.4), any_way, rng.uniform(0, 6.28))
    else:
        turn = rotation(rng.uniform(0, 2), any_way, rng.normal(0, 0.9))
    scene.put(piece(name, rng, kind), turn, at, radius, base)


def heap(scene: Scene, name: str, rng: Rng, radius: float) -> None:
    """Draw two layers of pieces, smaller towards the top, often behind the edge of a crate."""
    high, wide = scene.height.shape
    kind, roll = int(rng.integers(1000)), rng.uniform(0, 3.14)
    step = radius * {"banana": 1.3, "cucumber": 0.62, "pear": 1.35, "potato": 1.45}.get(name, 1.75)
    for layer in (1, 0):  # the upper layer first: what it hides is not drawn
        for i, y in enumerate(np.arange(-step * layer / 2, high + step, step * 0.87)):
            for x in np.arange(-step * ((i + layer) % 2) / 2, wide + step, step):
                if rng.random() < (1, 0.7)[layer]:
                    at = (float(x + rng.normal(0, step / 7)), float(y + rng.normal(0, step / 7)))
                    size = radius * rng.uniform(0.9, 1.1) * (0.8 + 0.3 * y / high)
                    bunch(scene, name, rng, kind, at, size, radius * (0.9 * layer + rng.uniform(0, 0.5)), roll)
    if rng.random() < 0.5:
        x, y = (2 * v / v.max() - 1 for v in grid((wide, high)))
        angle, lean = rng.choice([0, 1.57, 3.14]), rng.normal(0, 0.15)
        out = x * np.cos(angle + lean) + y * np.sin(angle + lean) - rng.uniform(0.6, 0.9)
        other = np.asarray(ground(rng, (wide, high), str(rng.choice(["tiles", "wood", "crate"]))), np.float32) / 255
        other = np.where((out < 0.07)[..., None], 0.5 * other.mean((0, 1)), other)
        scene.albedo[out > 0], scene.normal[out > 0], scene.gloss[out > 0] = other[out > 0], (0, 0, 1), 0.03
        scene.height[out > 0] = np.where(out < 0.07, 2.2, 0.5)[out > 0] * radius


def few(scene: Scene, name: str, rng: Rng, count: int) -> None:
    """Draw one or several pieces side by side."""
    high, wide = scene.height.shape
    kind, start = int(rng.integers(1000)), rng.uniform(0, 6.28)
    radius = (high * 0.95 if name == "carton" else min(high, wide)) * rng.uniform(0.36, 0.44) / count**0.5
    for k in range(count):
        angle, away = start + 6.28 * k / count, 0 if count == 1 else radius * 1.05 / np.sin(3.14 / count)
        x, y = rng.normal(0, 0.1 * radius, 2)
        at = (wide / 2 + away * np.cos(angle) + x, high / 2 + away * np.sin(angle) + y)
        bunch(scene, name, rng, kind, at, radius, radius * 0.6, rng.uniform(0, 6.28))


def row(scene: Scene, rng: Rng, radius: float) -> None:
    """Draw cartons on a shelf, a few of each design."""
    high, wide = scene.height.shape
    x = -radius
    while x < wide + radius:
        kind = int(rng.integers(1000))
        for _ in range(int(rng.integers(1, 4))):
            x += radius * 0.92
            turn = rotation(0.15, rng.normal(0, 0.08), 0)
            scene.put(piece("carton", rng, kind), turn, (x, high * 0.5), radius, radius * 0.4)


def tag(image: Image.Image, rng: Rng) -> None:
    """Draw a price tag over an edge of the image."""
    paper = Image.new("RGBA", (90, 44), str(rng.choice(["#f4f2ea", "#f6d838", "#e8e8ec"])))
    pen, price = ImageDraw.Draw(paper), f"{rng.integers(8, 60)}:{rng.choice(['90', '50', '95'])}"
    pen.text((84, 26), price, fill="#b01818", font=ImageFont.load_default(22), anchor="rm")
    for y in (8, 16, 24):
        pen.line((5, y, int(rng.integers(20, 34)), y), fill="#404040", width=2)
    paper = paper.rotate(rng.normal(0, 8), Image.Resampling.BICUBIC, expand=True)
    image.paste(
        paper, (int(rng.integers(0, max(1, image.width - 60))), image.height - int(rng.integers(20, 44))), paper
    )


def camera(image: Image.Image, rng: Rng) -> Image.Image:
    """Apply blur, exposure, tint, darker corners, sensor noise and JPEG compression."""
    x, y = (2 * v / v.max() - 1 for v in grid(image.size))
    gain = rng.uniform(0.9, 1.15) * np.array([1.03, 1, 0.94]) ** rng.uniform(-0.5, 1.5)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 0.9)))
    seen = np.asarray(image, np.float32) * gain * (1 - 0.12 * (x * x + y * y))[..., None]
    seen += rng.normal(0, rng.uniform(1.5, 4), seen.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=int(rng.integers(68, 88)))
    return Image.open(file).convert("RGB")


def arranged(name: str, rng: Rng, size: Size) -> Scene:
    """Arrange pieces of one class: a heap, some on a ground, or one in front of a shelf."""
    heaped, count, small = rng.random() < 0.6, int(rng.integers(1, 6)), min(size)
    if heaped and name == "carton":
        scene = Scene(shelf(rng, size))
        row(scene, rng, small * rng.uniform(0.3, 0.5))
    elif heaped:
        scene = Scene(ground(rng, size, "crate"))
        heap(scene, name, rng, small * rng.uniform(0.13, 0.24) * {"banana": 2.2, "cucumber": 1.8}.get(name, 1))
    else:
        single = name == "carton" or count == 1
        kind = str(rng.choice(["wood", "tiles", "cloth", "crate"]))
        scene = Scene(shelf(rng, size) if single else ground(rng, size, kind))
        few(scene, name, rng, 1 if single else count)
    return scene


def picture(name: str, seed: int, size: Size = (320, 240)) -> Image.Image:
    """Return an RGB image of a class; the same for the same arguments."""
    rng = np.random.default_rng([CLASSES.index(name), seed])
    image = arranged(name, rng, size).lit(rng)
    if rng.random() < 0.3:
        tag(image, rng)
    return camera(image, rng)


def cutout(name: str, seed: int, size: Size) -> Image.Image:
    """Return the pieces of an image without background, RGBA."""
    rng = np.random.default_rng([CLASSES.index(name), seed])
    scene = arranged(name, rng, size)
    image, empty = camera(scene.lit(rng), rng), Image.new("RGBA", size)
    return Image.composite(image.convert("RGBA"), empty, Image.fromarray(scene.height > 0))


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────

SHAPES = ((341, 256), (256, 320), (256, 256), (384, 256), (256, 341))
SEEDS = range(4, 8)  # of the samples; further images have seeds from 100
GREY, ALPHA, TURNED, NAMED = ("carton", 6), ("orange", 5), ("tomato", 7), ("pear", 6)  # the odd samples
ORIENTATION = 0x0112


def pictures(n: int, seed: int = 0) -> list[Image.Image]:
    """Return n images of all classes in turn: landscape, portrait and square."""
    return [drawn_once(CLASSES[i % len(CLASSES)], seed + i, SHAPES[i % len(SHAPES)]).copy() for i in range(n)]


drawn_once = lru_cache(64)(picture)  # many tests want the same pictures, and drawing one takes a fifth of a second


def sample_names() -> dict[str, tuple[str, int]]:
    """Return the class and seed of every sample image by its path."""
    names = {f"{name}/{name}-{k}.jpg": (name, seed) for name in CLASSES for k, seed in enumerate(SEEDS, 1)}
    renamed = {ALPHA: "orange/orange-2.png", NAMED: "pear/pear nº 3.jpg"}
    return {renamed.get(sample, path): sample for path, sample in names.items()}


def write_samples(folder: Path) -> None:
    """Write the sample images, one folder per class; four of them are grey, transparent, rotated or oddly named."""
    for path, sample in sample_names().items():
        file, size = folder / path, SHAPES[(CLASSES.index(sample[0]) + sample[1]) % len(SHAPES)]
        file.parent.mkdir(parents=True, exist_ok=True)
        if sample == ALPHA:
            cutout(*sample, size).save(file, optimize=True)
            continue
        image, exif = picture(*sample, size), Image.Exif()
        if sample == GREY:
            image = image.convert("L")
        if sample == TURNED:
            image = image.transpose(Image.Transpose.ROTATE_90)
            exif[ORIENTATION] = 6
        image.save(file, quality=78, optimize=True, exif=exif)


def write_pictures(folder: Path, per_class: int, seed: int) -> None:
    """Write images that are not among the samples, one folder per class, different for every seed."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k in range(per_class):
            image = picture(name, 100 + seed * 100_000 + k, SHAPES[k % len(SHAPES)])
            image.save(folder / name / f"{name}-{seed}-{k + 1:05}.jpg", quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw images of groceries, one folder per class.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", action="store_true", help="draw the sample images")
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.samples:
        write_samples(options.folder)
    else:
        write_pictures(options.folder, options.per_class, options.seed)


if __name__ == "__main__":
    main()
