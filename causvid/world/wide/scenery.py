"""What stands and lies in a landscape: ground, water, plants, houses; covers to pass behind."""

import numpy as np
from PIL import Image, ImageDraw

from causvid.world.wide.artist import FINE, Artist, mix, ramp
from causvid.world.wide.textures import Rgb, hsv, noise


def ground(art: Artist, image: Image.Image, far: Rgb, near: Rgb, grain: float = 0.03) -> None:
    """Fill a sheet below the horizon with ground whose grain grows towards the viewer."""
    w, h = image.size
    first = int(art.horizon * h)
    rows = ramp(h - first, [(0, far), (0.35, mix(far, near, 0.55)), (1, near)])
    rows = rows.resize((w, h - first))
    if grain:
        field = noise(art.rng, 64, w // 4, 1.0)
        cells = Image.fromarray(np.clip(128 + 40 * field, 0, 255).astype(np.uint8))
        spots = cells.resize((w, h - first), Image.Resampling.BICUBIC)
        dark = Image.eval(spots, lambda v: int(max(0, v - 128) * grain * 30))
        rows.paste(mix(near, (0, 0, 0), 0.35), (0, 0), dark)
    image.paste(rows, (0, first))


def tufts(art: Artist, draw: ImageDraw.ImageDraw, colours: list[Rgb], kind: str) -> None:
    """Marks on the ground: grass, pebbles or ripples, larger towards the viewer."""
    rng, h = art.rng, art.height * FINE
    for depth in np.sort(rng.uniform(0.04, 1, int(rng.integers(20, 70) * art.width / h))).tolist():
        y = (art.horizon + depth * (1 - art.horizon)) * h
        size = (0.008 + 0.028 * depth) * art.unit * FINE
        x = rng.uniform(0, art.width * FINE)
        colour = colours[int(rng.integers(len(colours)))]
        for at in art.around(x, 4 * size):
            if kind == "grass":
                for lean in (-0.7, 0.0, 0.6):
                    draw.line(
                        (at, y, at + lean * size, y - 1.3 * size), colour, max(1, int(size / 4))
                    )
            elif kind == "stones":
                draw.ellipse((at - size, y - 0.5 * size, at + size, y + 0.5 * size), colour)
            elif kind == "flowers":
                r = 0.35 * size
                draw.ellipse((at - r, y - r, at + r, y + r), colour)
            else:
                draw.arc(
                    (at - 3 * size, y, at + 3 * size, y + size),
                    200,
                    340,
                    colour,
                    max(1, int(size / 4)),
                )


def _tree(
    art: Artist, draw: ImageDraw.ImageDraw, x: float, y: float, size: float, kind: str
) -> None:
    """One tree, cactus or house that stands at a fine column and row."""
    rng = art.rng
    if kind == "fir":
        green, snowy = art.tone(0.42, 0.55, 0.38), art.phases[2] < 3
        draw.rectangle((x - 0.06 * size, y - 0.2 * size, x + 0.06 * size, y), (96, 66, 44))
        for tier in range(3):
            top, half = y - size * (0.5 + 0.28 * tier), size * (0.38 - 0.09 * tier)
            foot = top + 0.42 * size
            draw.polygon([(x, top - 0.1 * size), (x + half, foot), (x - half, foot)], green)
            if snowy:
                draw.polygon(
                    [
                        (x, top - 0.1 * size),
                        (x + half / 2, top + 0.16 * size),
                        (x - half / 2, top + 0.16 * size),
                    ],
                    (238, 244, 250),
                )
    elif kind == "round":
        leaf = art.tone(float(art.phases[3] / 40 + 0.22), 0.55, 0.5)
        draw.rectangle((x - 0.06 * size, y - 0.5 * size, x + 0.06 * size, y), (104, 72, 46))
        for _ in range(5):
            dx, dy, r = rng.normal(0, 0.17), rng.uniform(-0.2, 0.2), rng.uniform(0.2, 0.32)
            cx, cy, r = x + dx * size, y - (0.72 + dy) * size, r * size
            draw.ellipse(
                (cx - r, cy - r, cx + r, cy + r), mix(leaf, (255, 255, 160), rng.uniform(0, 0.18))
            )
    elif kind == "palm":
        draw.line(
            (x, y, x + 0.08 * size, y - 0.5 * size, x + 0.2 * size, y - 0.9 * size),
            (134, 96, 60),
            max(2, int(0.08 * size)),
        )
        for lean in (-0.5, -0.3, 0.05, 0.3, 0.5):
            cx, cy = x + 0.2 * size, y - 0.9 * size
            middle = cx + lean * 0.6 * size, cy - 0.16 * size
            end = cx + lean * size, cy + 0.16 * size
            draw.polygon([(cx, cy), middle, end], art.tone(0.33, 0.6, 0.5))
    elif kind == "cactus":
        green, r = art.tone(0.37, 0.5, 0.5), 0.09 * size
        draw.rounded_rectangle((x - r, y - size, x + r, y), r, green)
        for side, low in ((-1, 0.45), (1, 0.6)):
            arm, at = x + side * 0.3 * size, y - low * size
            draw.rounded_rectangle((min(x, arm), at - r, max(x, arm), at + r), r, green)
            draw.rounded_rectangle((arm - r, at - 0.28 * size, arm + r, at + r), r, green)
    else:
        wall, roof = art.tone(0.09, 0.25, 0.85, 0.08), art.tone(0.02, 0.6, 0.6, 0.05)
        draw.rectangle((x - 0.4 * size, y - 0.5 * size, x + 0.4 * size, y), wall)
        draw.polygon(
            [
                (x - 0.5 * size, y - 0.5 * size),
                (x, y - 0.95 * size),
                (x + 0.5 * size, y - 0.5 * size),
            ],
            roof,
        )
        draw.rectangle(
            (x - 0.08 * size, y - 0.28 * size, x + 0.1 * size, y), mix(roof, (0, 0, 0), 0.4)
        )


def row(
    art: Artist,
    draw: ImageDraw.ImageDraw,
    kind: str,
    count: float,
    size: tuple[float, float],
    deep: float,
) -> None:
    """Trees or houses between the horizon and a depth, farther ones first and smaller."""
    rng = art.rng
    number = rng.poisson(count * art.width / art.unit)
    for depth in np.sort(rng.uniform(0, deep, number)).tolist():
        y = (art.horizon + depth * (1 - art.horizon)) * art.height * FINE
        tall = rng.uniform(*size) * (0.6 + 1.6 * depth) * art.unit * FINE
        x = rng.uniform(0, art.width * FINE)
        state = rng.bit_generator.state
        for at in art.around(x, tall):
            rng.bit_generator.state = state  # the same tree on both edges
            _tree(art, draw, at, y, tall, kind)


def water(art: Artist, image: Image.Image, draw: ImageDraw.ImageDraw, until: float) -> None:
    """Water from the horizon to a row, with waves."""
    rng, h = art.rng, art.height * FINE
    blue = art.tone(float(rng.uniform(0.5, 0.6)), 0.7, 0.66)
    first, last = int(art.horizon * h), int(until * h)
    stops = [
        (0.0, mix(blue, (230, 245, 255), 0.45)),
        (0.3, blue),
        (1.0, mix(blue, (0, 20, 60), 0.35)),
    ]
    image.paste(ramp(last - first, stops).resize((image.width, last - first)), (0, first))
    for depth in np.sort(
        rng.uniform(0, 1, int(rng.integers(40, 90) * art.width / art.height))
    ).tolist():
        y = first + depth**1.3 * (last - first)
        size = (0.015 + 0.09 * depth) * art.unit * FINE
        x = rng.uniform(0, image.width)
        tone = mix(blue, (255, 255, 255), rng.uniform(0.2, 0.6))
        for at in art.around(x, size):
            draw.arc(
                (at - size, y, at + size, y + size * 0.35), 195, 345, tone, max(1, int(size / 16))
            )


def cover(kind: str, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Something that stands in front of things: RGBA, `width` by `height`, on its lower edge."""
    w, h = width * FINE, height * FINE
    image = Image.new("RGBA", (w, h))
    draw = ImageDraw.Draw(image)
    hue, tone = float(rng.uniform()), float(rng.uniform(0.5, 0.85))
    if kind == "wall":
        brick = hsv(float(rng.uniform(0.01, 0.09)), float(rng.uniform(0.3, 0.6)), tone)
        draw.rectangle((0, 0, w, h), mix(brick, (230, 225, 215), 0.5))
        tall = max(6, h // 9)
        for row, y in enumerate(range(0, h, tall)):
            for x in range(-(row % 2) * tall, w, 2 * tall):
                shade = mix(brick, (0, 0, 0), float(rng.uniform(0, 0.2)))
                draw.rectangle((x + 2, y + 2, x + 2 * tall - 2, y + tall - 2), shade)
    elif kind == "box":
        wood = hsv(float(rng.uniform(0.06, 0.12)), 0.5, tone)
        draw.rectangle((0, 0, w, h), wood)
        edge = w // 9
        dark = mix(wood, (0, 0, 0), 0.35)
        for step in range(1, 5):
            x = w * step // 5
            draw.line((x, 0, x, h), dark, 2)
        draw.rectangle((0, 0, w - 1, h - 1), outline=mix(wood, (255, 255, 255), 0.2), width=edge)
        draw.rectangle((0, 0, w - 1, h - 1), outline=dark, width=3)
        draw.rectangle((edge, edge, w - edge, h - edge), outline=dark, width=2)
    elif kind == "rock":
        grey = hsv(hue, 0.08, tone * 0.85)
        angles = np.linspace(np.pi, 2 * np.pi, 9)
        reach = rng.uniform(0.8, 1.0, 9)
        xs, ys = w / 2 + np.cos(angles) * reach * w / 2, h + np.sin(angles) * reach * h
        points = list(zip(xs.tolist(), ys.tolist(), strict=True))
        draw.polygon([*points, (w, h), (0, h)], grey)
        draw.polygon(
            [*points[1:5], (w * 0.45, h * 0.55), (w * 0.2, h * 0.7)],
            mix(grey, (255, 255, 255), 0.22),
        )
        draw.polygon([*points[6:], (w, h), (w * 0.75, h)], mix(grey, (0, 0, 0), 0.25))
    else:
        leaf = hsv(float(rng.uniform(0.22, 0.38)), 0.55, tone * 0.75)
        r = 0.26 * w
        draw.rounded_rectangle((0.04 * w, 0.4 * h, 0.96 * w, h), 0.2 * w, leaf)
        for _ in range(16):
            cx, cy = rng.uniform(r, w - r), rng.uniform(r, h - 0.6 * r)
            draw.ellipse(
                (cx - r, cy - r, cx + r, cy + r),
                mix(leaf, (240, 250, 140), float(rng.uniform(0, 0.25))),
            )
    return image.reduce(FINE)
