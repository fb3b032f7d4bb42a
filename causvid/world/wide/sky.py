"""Skies: their light at each time of day, sun and moon, stars and clouds."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from causvid.world.wide.artist import FINE, Artist, Layer, ramp
from causvid.world.wide.textures import hsv


def sky_layer(art: Artist, down_to: float, cloudy: bool = True) -> Layer:
    """The sky of the time of day, with its sun or moon, stars and clouds."""
    rng, w, h = art.source(0), art.width, art.height
    hue = float(rng.uniform(-1, 1))
    if art.time == "night":
        stops = [(0, hsv(0.64, 0.75, 0.13)), (down_to, hsv(0.63 + 0.02 * hue, 0.6, 0.36))]
    elif art.time == "sunset":
        stops = [
            (0, hsv(0.76 + 0.05 * hue, 0.55, 0.45)),
            (down_to * 0.5, hsv(0.97 + 0.03 * hue, 0.5, 0.8)),
        ]
        stops += [(down_to * 0.8, hsv(0.055 + 0.02 * hue, 0.62, 0.97)), (down_to, (255, 210, 130))]
    else:
        stops = [
            (0, hsv(0.575 + 0.04 * hue, float(rng.uniform(0.5, 0.8)), float(rng.uniform(0.85, 1))))
        ]
        stops += [(down_to, hsv(0.555 + 0.04 * hue, float(rng.uniform(0.06, 0.25)), 1.0))]
    sky = ramp(h, stops).resize((w, h))
    draw = ImageDraw.Draw(sky)
    if art.time == "night":
        for _ in range(int(rng.integers(15, 60) * w / h)):
            x, y = rng.uniform(0, w), rng.uniform(0, down_to * h)
            tone = int(rng.integers(110, 256))
            draw.point((x, y), (tone, tone, min(255, tone + 10)))
            if tone > 225:
                draw.point((x + 1, y), (150, 150, 170))
    sights = art.source(1)
    if sights.random() < 0.8:
        _sun(art, sights, sky, down_to)
    if cloudy and sights.random() < 0.8:
        clouds(art, sky, down_to, int(sights.integers(2, 8) * w / (2 * h)) + 1)
    return Layer(sky, 0, 0.06)


def _sun(art: Artist, rng: np.random.Generator, sky: Image.Image, down_to: float) -> None:
    unit = art.unit
    low = art.time == "sunset"
    radius = float(rng.uniform(0.06, 0.12)) * unit
    x = float(rng.uniform(0.06, 0.6)) * art.width
    y = float(rng.uniform(0.6, 0.95) if low else rng.uniform(0.16, 0.5)) * down_to * art.height
    glow, core = {
        "day": ((255, 248, 210), (255, 238, 120)),
        "sunset": ((255, 214, 130), (255, 226, 140)),
        "night": ((140, 150, 210), (250, 244, 214)),
    }[art.time]
    px = np.arange(art.width, dtype=np.float32)[None] - x
    py = np.arange(art.height, dtype=np.float32)[:, None] - y
    away = np.hypot(px, py)
    strength = 110 if art.time == "night" else 190
    halo = np.exp(-np.maximum(away - radius, 0) / (0.1 * unit)) * strength
    sky.paste(glow, (0, 0), Image.fromarray(halo.astype(np.uint8)))
    disc = np.clip(radius - away + 0.5, 0, 1)
    if art.time == "night" and art.phases[0] < 4:
        bite = np.hypot(px - 0.5 * radius, py - 0.2 * radius)
        disc = np.minimum(disc, np.clip(bite - 0.85 * radius + 0.5, 0, 1))
    sky.paste(core, (0, 0), Image.fromarray((disc * 255).astype(np.uint8)))


def clouds(art: Artist, sky: Image.Image, down_to: float, count: int) -> None:
    unit = art.unit
    bright, dark = {
        "day": ((255, 255, 255), (214, 226, 240)),
        "sunset": ((255, 196, 160), (214, 130, 140)),
        "night": ((70, 78, 122), (46, 52, 94)),
    }[art.time]
    for colour, lift in ((dark, 0.018), (bright, 0.0)):
        mask, draw = art.sheet("L")
        spots = art.source(2)
        for _ in range(count):
            size = spots.uniform(0.05, 0.11) * unit * FINE
            x = spots.uniform(0, art.width * FINE)
            y = spots.uniform(0.08, 0.75) * down_to * art.height * FINE + lift * unit * FINE
            for _ in range(int(spots.integers(3, 7))):
                dx, dy, s = spots.normal(0, 1.1), spots.uniform(-0.45, 0.1), spots.uniform(0.5, 1)
                a, b = size * s * 1.25, size * s * 0.8
                for at in art.around(x + dx * size, a):
                    draw.ellipse((at - a, y + dy * size - b, at + a, y + dy * size + b), fill=225)
        mask = mask.reduce(FINE).filter(ImageFilter.GaussianBlur(0.012 * unit))
        sky.paste(colour, (0, 0), mask)
