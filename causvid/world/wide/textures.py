"""Pictures that no caption names: what a given picture may be made of.

Every painter takes a random source and a size and returns an RGB picture that continues beyond
each edge at the opposite one, so that a camera may pan for ever.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Rgb = tuple[int, int, int]
Points = list[tuple[float, float]]


def palette(rng: np.random.Generator, count: int) -> list[Rgb]:
    """Colours that go together: one or two hues, many lights, at times one that stands out."""
    hue, spread = rng.uniform(), rng.choice([0.05, 0.12, 0.33, 0.5])
    colours = []
    for index in range(count):
        h = (hue + spread * rng.normal()) % 1
        s = float(np.clip(rng.beta(1.6, 2.4) + (0.1 if index == 1 else 0), 0, 1))
        v = float(np.clip(rng.beta(2.2, 1.5), 0.08, 1))
        colours.append(hsv(h, s, v))
    return colours


def hsv(hue: float, saturation: float, value: float) -> Rgb:
    """8-bit RGB of a colour, each argument in [0, 1]."""
    at = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    share = np.clip(np.minimum(at, 4 - at), 0, 1)
    r, g, b = (255 * value * (1 - saturation * share)).round().astype(int).tolist()
    return r, g, b


def noise(rng: np.random.Generator, height: int, width: int, slope: float) -> NDArray[np.float32]:
    """Periodic noise `[h, w]` with amplitudes 1 / f ** slope, of mean 0 and deviation 1."""
    fy = np.fft.fftfreq(height)[:, None].astype(np.float32)
    fx = np.fft.rfftfreq(width)[None].astype(np.float32)
    reach = np.hypot(fy, fx)
    reach[0, 0] = 1
    amplitude = reach ** np.float32(-slope)
    amplitude[0, 0] = 0
    angle = rng.random(amplitude.shape, dtype=np.float32) * np.float32(2 * np.pi)
    field = np.fft.irfft2(amplitude * np.exp(1j * angle), s=(height, width)).astype(np.float32)
    return field / max(float(field.std()), 1e-9)


def _picture(values: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def through(field: NDArray[np.floating], colours: list[Rgb]) -> Image.Image:
    """A field in [0, 1] as a picture in the colours of a ramp."""
    stops = np.linspace(0, 255, len(colours))
    table = [np.interp(np.arange(256), stops, [c[i] for c in colours]) for i in range(3)]
    grey = np.clip(field * 255, 0, 255).astype(np.uint8)
    return Image.fromarray(np.stack(table, 1).astype(np.uint8)[grey])


def fractal(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Clouds, marble or stone."""
    slope = rng.uniform(0.9, 1.8)
    if rng.random() < 0.5:
        mixing = rng.normal(size=(3, 3)) * 0.4 + np.eye(3)
        fields = np.stack([noise(rng, height, width, slope) for _ in range(3)], -1)
        base = np.array(palette(rng, 1)[0])
        return _picture(base + fields @ mixing.astype(np.float32) * rng.uniform(15, 55))
    field: NDArray[np.floating] = noise(rng, height, width, slope)
    if rng.random() < 0.3:
        field = np.abs(field) * 1.6 - 1.2
    return through(0.5 + field * rng.uniform(0.15, 0.3), palette(rng, int(rng.integers(2, 6))))


def gradient(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Smooth waves of colour, or a pattern of stripes, checks or rings."""
    x = (np.arange(width, dtype=np.float32) * (2 * np.pi / width))[None]
    y = (np.arange(height, dtype=np.float32) * (2 * np.pi / height))[:, None]
    field: NDArray[np.floating] = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        a, b = rng.integers(-2, 3, 2)
        field += rng.uniform(0.3, 1) * np.cos(a * x + b * y + rng.uniform(0, 6))
    field = (field - field.min()) / max(float(np.ptp(field)), 1e-6)
    kind = rng.random()
    if kind < 0.2:  # stripes
        a, b = int(rng.integers(2, 9)), int(rng.integers(-4, 5))
        field = 0.5 + np.clip(4 * np.sin(a * x + b * y + field), -0.5, 0.5)
    elif kind < 0.35:  # checks
        a, b = (int(n) for n in rng.integers(2, 7, 2))
        field = 0.5 + np.clip(8 * np.sin(a * x) * np.sin(b * y), -0.5, 0.5)
    elif kind < 0.45:
        field = 0.5 + 0.5 * np.sin(field * rng.uniform(8, 30))
    picture = through(field, palette(rng, int(rng.integers(2, 5))))
    return picture.filter(ImageFilter.GaussianBlur(0.6))


def _copies(box: tuple[float, float, float, float], w: int, h: int) -> Iterator[tuple[int, int]]:
    """Shifts at which something with these limits is seen on a picture that repeats."""
    for dx in (-w, 0, w):
        for dy in (-h, 0, h):
            if box[0] + dx < w and box[2] + dx > 0 and box[1] + dy < h and box[3] + dy > 0:
                yield dx, dy


def _shape(rng: np.random.Generator, kind: str, x: float, y: float, r: float) -> Points:
    """The corners of a disc, box, line or polygon around a point."""
    if kind == "disc":
        angles = np.linspace(0, 2 * np.pi, 16 if r < 12 else 40, endpoint=False)
        reach = np.stack([np.cos(angles) * rng.uniform(0.6, 1), np.sin(angles)], 1) * r
    elif kind == "polygon":
        corners = int(rng.integers(3, 7))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        reach = np.stack([np.cos(angles), np.sin(angles)], 1) * r
    else:
        a, b = (r, rng.uniform(0.3, 1) * r) if kind == "box" else (2.5 * r, max(1.2, 0.09 * r))
        reach = np.array([[-a, -b], [a, -b], [a, b], [-a, b]])
    turn = 0.0 if kind == "box" and rng.random() < 0.5 else rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    points = reach @ np.array([[cos, sin], [-sin, cos]]) + (x, y)
    return [(float(px), float(py)) for px, py in points]


def leaves(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Dead leaves: shapes of all sizes, one upon the other, small ones far more often."""
    w, h = 2 * width, 2 * height
    colours = palette(rng, int(rng.integers(3, 9)))
    image = Image.new("RGB", (w, h), colours[0])
    draw = ImageDraw.Draw(image)
    kinds = [["disc"], ["box"], ["line", "disc"], ["polygon"], ["disc", "box", "line", "polygon"]]
    kind = kinds[int(rng.integers(len(kinds)))]
    count = int(np.exp(rng.uniform(np.log(15), np.log(400))))
    largest = rng.uniform(0.2, 0.5) * h
    power, least = rng.uniform(0.9, 2.2), rng.uniform(0.06, 0.2)
    sizes = largest * np.clip(least * (1 - rng.random(count)) ** (-1 / power), 0, 1)
    jitter = rng.integers(4, 40)
    outline = rng.random() < 0.2
    for r in sizes.tolist():
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        points = _shape(rng, kind[int(rng.integers(len(kind)))], x, y, r)
        base = colours[int(rng.integers(len(colours)))]
        fill = tuple(np.clip(base + rng.integers(-jitter, jitter + 1, 3), 0, 255).tolist())
        xs, ys = zip(*points, strict=True)
        for dx, dy in _copies((min(xs), min(ys), max(xs), max(ys)), w, h):
            moved = [(px + dx, py + dy) for px, py in points]
            draw.polygon(moved, fill=fill, outline=colours[-1] if outline else None)
    picture = image.reduce(2)
    if rng.random() < 0.5:
        picture = _shaded(rng, picture, rng.uniform(0.04, 0.2))
    return picture


def _shaded(rng: np.random.Generator, picture: Image.Image, depth: float) -> Image.Image:
    """Light that changes from place to place, and a grain."""
    field = noise(rng, picture.height, picture.width, rng.uniform(0.6, 1.6))
    light = np.clip(1 + depth * field, 0.4, 1.5)[..., None]
    return _picture(np.asarray(picture, np.float32) * light)


def drawing(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Lines on paper: scribbles, rings, houses and hatching, a few of them filled."""
    w, h = 2 * width, 2 * height
    paper = hsv(rng.uniform(), rng.uniform(0, 0.16), rng.uniform(0.88, 1))
    inks = [hsv(rng.uniform(), rng.uniform(0, 1), rng.uniform(0.05, 0.6)) for _ in range(3)]
    if rng.random() < 0.12:
        paper, inks = inks[0], [paper, hsv(rng.uniform(), 0.3, 1.0), (255, 255, 255)]
    image = Image.new("RGB", (w, h), paper)
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.25:  # ruled paper
        step, tone = h // int(rng.integers(6, 14)), tuple((np.array(paper) * 9 // 10).tolist())
        for y in range(step // 2, h, step):
            draw.line((0, y, w, y), fill=tone, width=2)
    thick = int(rng.integers(3, 9))
    unit = min(w, h)
    for _ in range(int(rng.integers(5, 22))):
        at = rng.uniform(0, w), rng.uniform(0, h)
        points = _stroke(rng, *at, rng.uniform(0.06, 0.22) * unit)
        ink = inks[int(rng.integers(len(inks)))]
        closed = points[0] == points[-1]
        fill = hsv(rng.uniform(), rng.uniform(0.3, 1), rng.uniform(0.6, 1))
        filled = closed and rng.random() < 0.35
        xs, ys = zip(*points, strict=True)
        for dx, dy in _copies((min(xs) - 9, min(ys) - 9, max(xs) + 9, max(ys) + 9), w, h):
            moved = [(px + dx, py + dy) for px, py in points]
            if filled:
                draw.polygon(moved, fill=fill)
            draw.line(moved, fill=ink, width=thick, joint="curve")
    return image.reduce(2)


def _stroke(rng: np.random.Generator, x: float, y: float, r: float) -> Points:
    """One stroke of a pen around a point."""
    kind = int(rng.integers(6))
    t = np.linspace(0, 1, 48)
    if kind == 0:  # a wobbly ring
        wobble = 1 + 0.08 * np.sin(2 * np.pi * t * int(rng.integers(2, 6)) + rng.uniform(0, 6))
        px, py = np.cos(2 * np.pi * t) * wobble, np.sin(2 * np.pi * t) * wobble
        px[-1], py[-1] = px[0], py[0]
    elif kind == 1:  # a spiral
        turns = rng.uniform(2, 4)
        px, py = t * np.cos(2 * np.pi * turns * t), t * np.sin(2 * np.pi * turns * t)
    elif kind == 2:  # a house
        px = np.array([-0.8, -0.8, 0.0, 0.8, 0.8, -0.8, 0.8, -0.8])
        py = np.array([0.9, -0.2, -1.0, -0.2, 0.9, 0.9, -0.2, -0.2])
        px, py = np.append(px[:5], px[0]), np.append(py[:5], py[0])
    elif kind == 3:  # a zigzag
        n = int(rng.integers(4, 10))
        px, py = np.linspace(-1.3, 1.3, n), np.where(np.arange(n) % 2, 0.5, -0.5)
    elif kind == 4:  # a star
        n = 2 * int(rng.integers(4, 8))
        reach = np.where(np.arange(n + 1) % 2, 0.45, 1.0)
        angle = 2 * np.pi * np.arange(n + 1) / n
        px, py = np.cos(angle) * reach, np.sin(angle) * reach
        px[-1], py[-1] = px[0], py[0]
    else:  # a scribble
        walk = rng.normal(size=(2, 14)).cumsum(1)
        px, py = (np.interp(t * 13, np.arange(14), row - row.mean()) / 3 for row in walk)
    turn = rng.uniform(-0.4, 0.4)
    cos, sin = np.cos(turn) * r, np.sin(turn) * r
    points = list(
        zip((x + cos * px - sin * py).tolist(), (y + sin * px + cos * py).tolist(), strict=True)
    )
    if px[0] == px[-1] and py[0] == py[-1]:
        points[-1] = points[0]
    return points


def boxes(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Boxes that stand before a wall, lit from one side."""
    w, h = 2 * width, 2 * height
    wall, floor, *colours = palette(rng, 7)
    image = Image.new("RGB", (w, h), wall)
    draw = ImageDraw.Draw(image)
    line = rng.uniform(0.35, 0.65) * h
    draw.rectangle((0, line, w, h), fill=floor)
    feet = np.sort(rng.uniform(line / h, 0.98, int(rng.integers(3, 11)))) * h
    for foot in feet.tolist():
        near = 0.5 + (foot - line) / (h - line)
        a, b = rng.uniform(0.05, 0.16, 2) * h * near
        tall = rng.uniform(0.08, 0.4) * h * near
        x = rng.uniform(0, w)
        front = np.array(colours[int(rng.integers(len(colours)))])
        top = tuple(np.minimum(front + 36, 255).tolist())
        side = tuple((front * 6 // 10).tolist())
        for dx, dy in _copies((x - a, foot - tall - b, x + a + b, foot), w, h):
            if dy:
                continue
            left, right, lift = x - a + dx, x + a + dx, b * 0.6
            draw.polygon(
                [(right, foot), (right + b, foot - lift), (right + b * 1.7, foot), (right, foot)],
                fill=tuple((np.array(floor) * 8 // 10).tolist()),
            )
            draw.rectangle((left, foot - tall, right, foot), fill=tuple(front.tolist()))
            up = foot - tall
            draw.polygon(
                [(left, up), (left + b, up - lift), (right + b, up - lift), (right, up)], top
            )
            draw.polygon(
                [(right, up), (right + b, up - lift), (right + b, foot - lift), (right, foot)], side
            )
    return _shaded(rng, image.reduce(2), rng.uniform(0.02, 0.08))


def collage(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Pieces of other pictures glued over each other, each with its shadow."""
    simple = (fractal, gradient, leaves)
    ground = simple[int(rng.integers(3))](rng, width, height)
    sources = [simple[int(rng.integers(3))](rng, width, height) for _ in range(2)]
    for _ in range(int(rng.integers(4, 11))):
        r = rng.uniform(0.1, 0.32) * min(width, height)
        kind = ("box", "box", "polygon", "disc")[int(rng.integers(4))]
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        points = _shape(rng, kind, x, y, r)
        mask = Image.new("L", (2 * width, 2 * height))
        draw = ImageDraw.Draw(mask)
        xs, ys = zip(*points, strict=True)
        for dx, dy in _copies((min(xs), min(ys), max(xs), max(ys)), width, height):
            draw.polygon([(2 * (px + dx), 2 * (py + dy)) for px, py in points], fill=255)
        mask = mask.reduce(2)
        shadow = mask.point([v * 2 // 5 for v in range(256)])
        ground.paste((20, 20, 28), (2, 3), shadow)
        if rng.random() < 0.4:
            ground.paste(palette(rng, 1)[0], (0, 0), mask)
        else:
            ground.paste(sources[int(rng.integers(2))], (0, 0), mask)
    return ground


def photograph(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """What a lens might see: ridges of stone or leaves in haze, or things out of focus."""
    tones = palette(rng, 6)
    if rng.random() < 0.45:
        picture = leaves(rng, width, height)
        blurred = picture.filter(ImageFilter.GaussianBlur(rng.uniform(2, 6)))
        sharp = leaves(rng, width, height)
        field = noise(rng, height, width, 1.8)
        mask = _picture(np.clip(128 + 400 * (field - rng.uniform(-0.2, 0.9)), 0, 255))
        blurred.paste(sharp, (0, 0), mask)
        return _shaded(rng, blurred, 0.15)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky, haze = np.array(tones[0], np.float32), np.array(tones[1], np.float32) * 0.4 + 150
    clouds = noise(rng, height, width, 1.5)[..., None]
    picture = sky + (haze - sky) * np.clip(rows * 1.6, 0, 1) + clouds * rng.uniform(2, 20)
    ridges = int(rng.integers(2, 5))
    turn = np.arange(width) * (2 * np.pi / width)
    for ridge in range(ridges):
        near = (ridge + 1) / ridges
        height_at = 0.75 - 0.5 * (1 - near) - 0.1
        line = np.full(width, height_at)
        for k in range(1, 14):
            line += rng.normal() * 0.11 / k**1.1 * np.cos(k * turn + rng.uniform(0, 6))
        over = np.clip(rows[..., 0] * height - line[None] * height, 0, 1)[..., None]
        grain = noise(rng, height, width, rng.uniform(0.5, 1.2))[..., None]
        tone = np.array(tones[2 + ridge % 4], np.float32) * 0.8
        tone = haze + (tone - haze) * (0.25 + 0.75 * near)
        picture = picture + (tone + grain * 26 * near - picture) * over
    return _picture(picture)


TEXTURES: dict[str, Callable[[np.random.Generator, int, int], Image.Image]] = {
    "leaves": leaves,
    "fractal": fractal,
    "gradient": gradient,
    "drawing": drawing,
    "boxes": boxes,
    "collage": collage,
    "photograph": photograph,
}
