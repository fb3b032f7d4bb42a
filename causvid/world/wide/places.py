"""The places that a caption can name: landscapes, a town, a room, the sky, space, the sea floor.

A place is drawn once as a picture that repeats sideways, in layers that may pass at different
paces when the camera goes along with something: far ones slowly. Everything that no caption
speaks of is drawn from the random source: heights, hues, the place of the sun, kinds of trees.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from causvid.world.wide import light
from causvid.world.wide.artist import FINE, Artist, Layer, Place, mix, ramp
from causvid.world.wide.scenery import ground, row, tufts, water
from causvid.world.wide.sky import clouds, sky_layer
from causvid.world.wide.textures import hsv, noise


def _landscape(art: Artist, far: Image.Image, pace: float, near: Image.Image) -> Place:
    """A sky, something far that passes at a pace, and the ground that things stand on."""
    layers = (sky_layer(art, art.horizon), art.layer(far, pace), art.layer(near, 1.0))
    return Place(layers, art.horizon)


def _meadow(art: Artist) -> Place:
    rng = art.rng
    green = float(rng.uniform(0.22, 0.34))
    far, fd = art.sheet()
    for step in range(int(rng.integers(1, 3))):
        tone = art.tone(green + 0.06, 0.34 + 0.08 * step, 0.62 - 0.07 * step)
        art.fill_below(fd, art.ridge(art.horizon + 0.01, rng.uniform(0.06, 0.22), 1.5), tone)
    near, nd = art.sheet()
    grass = art.tone(green, 0.62, 0.56)
    ground(art, near, mix(grass, (236, 240, 170), 0.35), grass)
    kind = ("round", "fir", "house", "round")[int(rng.integers(4))]
    row(art, nd, kind, rng.uniform(1, 5), (0.13, 0.24), 0.12)
    tufts(art, nd, [mix(grass, (0, 0, 0), 0.25), mix(grass, (255, 255, 190), 0.3)], "grass")
    if rng.random() < 0.5:
        tufts(art, nd, [(250, 240, 250), (250, 220, 70), art.tone(0.95, 0.5, 0.9)], "flowers")
    return _landscape(art, far, 0.25, near)


def _forest(art: Artist) -> Place:
    rng = art.rng
    kind = ("fir", "round")[int(rng.integers(2))]
    far, fd = art.sheet()
    tone = art.tone(0.36, 0.4, 0.45)
    art.fill_below(fd, art.ridge(art.horizon - 0.06, 0.12, 0.4), tone)
    row(art, fd, kind, 9, (0.3, 0.5), 0.02)
    near, nd = art.sheet()
    moss = art.tone(0.27, 0.5, 0.42)
    ground(art, near, mix(moss, (30, 60, 30), 0.3), moss, 0.05)
    row(art, nd, kind, 6, (0.4, 0.62), 0.1)
    tufts(art, nd, [mix(moss, (0, 0, 0), 0.3), mix(moss, (220, 240, 120), 0.25)], "grass")
    return _landscape(art, far, 0.5, near)


def _desert(art: Artist) -> Place:
    rng = art.rng
    hue = float(rng.uniform(0.06, 0.12))
    far, fd = art.sheet()
    line = art.ridge(art.horizon + 0.01, rng.uniform(0.08, 0.24), 1.4)
    if rng.random() < 0.5:  # table mountains
        line = np.maximum(line, art.horizon - rng.uniform(0.05, 0.12))
    art.fill_below(fd, line, art.tone(hue - 0.04, 0.5, 0.76))
    near, nd = art.sheet()
    sand = art.tone(hue, 0.5, 0.87)
    ground(art, near, mix(sand, (255, 240, 200), 0.5), sand, 0.02)
    for dune in range(int(rng.integers(0, 3))):
        shade = mix(sand, (255, 232, 170) if dune % 2 else (180, 120, 70), 0.25)
        art.fill_below(nd, art.ridge(art.horizon + 0.12 + 0.16 * dune, 0.1, 2.0), shade)
    row(art, nd, "palm" if rng.random() < 0.2 else "cactus", rng.uniform(0.5, 4), (0.1, 0.22), 0.15)
    tufts(art, nd, [mix(sand, (140, 90, 50), 0.3)], "stones" if rng.random() < 0.5 else "ripples")
    return _landscape(art, far, 0.25, near)


def _snow(art: Artist) -> Place:
    rng = art.rng
    far, fd = art.sheet()
    line = art.ridge(art.horizon + 0.01, rng.uniform(0.1, 0.3), 1.1)
    art.fill_below(fd, line, art.tone(0.6, 0.25, 0.66))
    white, wd = art.sheet()
    art.fill_below(wd, line, (246, 249, 255))
    jag = art.ridge(art.horizon - 0.02, 0.1, 0.5)
    mask = Image.new("L", far.size)
    art.fill_below(ImageDraw.Draw(mask), np.maximum(line + 0.05, jag), 255)  # type: ignore[arg-type]
    white.paste(far, (0, 0), mask)
    near, nd = art.sheet()
    snow = art.tone(0.6, 0.06, 0.96, 0.01)
    ground(art, near, (250, 252, 255), mix(snow, (190, 208, 235), 0.4), 0.015)
    row(art, nd, "house" if rng.random() < 0.2 else "fir", rng.uniform(1, 5), (0.16, 0.28), 0.14)
    tufts(art, nd, [(206, 220, 240)], "ripples")
    return _landscape(art, white, 0.25, near)


def _mountains(art: Artist) -> Place:
    rng = art.rng
    far, fd = art.sheet()
    hue = float(rng.uniform(0.55, 0.8))
    for step in range(3):
        tone = art.tone(hue, 0.2 + 0.12 * step, 0.75 - 0.16 * step, 0.015)
        line = art.ridge(art.horizon + 0.02, 0.42 - 0.12 * step, 1.0)
        art.fill_below(fd, line, tone)
        if not step:
            top = Image.new("L", far.size)
            art.fill_below(ImageDraw.Draw(top), line, 255)  # type: ignore[arg-type]
            low = Image.new("L", far.size)
            jag = np.maximum(line + 0.04, art.ridge(art.horizon - 0.16, 0.1, 0.5))
            art.fill_below(ImageDraw.Draw(low), jag, 255)  # type: ignore[arg-type]
            top.paste(0, (0, 0), low)
            far.paste((248, 250, 255, 255), (0, 0), top)
    near, nd = art.sheet()
    green = art.tone(0.27, 0.4, 0.5)
    ground(art, near, mix(green, (200, 210, 200), 0.4), green)
    row(art, nd, "fir", rng.uniform(1, 5), (0.1, 0.2), 0.15)
    tufts(art, nd, [mix(green, (0, 0, 0), 0.3), (150, 150, 154)], "stones")
    return _landscape(art, far, 0.25, near)


def _sea(art: Artist) -> Place:
    rng = art.rng
    far, fd = art.sheet()
    if rng.random() < 0.6:
        line = art.ridge(art.horizon + 0.03, rng.uniform(0.06, 0.16), 1.8)
        art.fill_below(fd, line, art.tone(float(rng.uniform(0.25, 0.6)), 0.25, 0.6))
    near, nd = art.sheet()
    water(art, near, nd, 1.0)
    layers = (sky_layer(art, art.horizon), art.layer(far, 0.2), art.layer(near, 1.0))
    return Place(layers, art.horizon)


def _beach(art: Artist) -> Place:
    rng = art.rng
    art.horizon = float(rng.uniform(0.42, 0.55))
    surf, wd = art.sheet()
    water(art, surf, wd, 0.85)
    near, nd = art.sheet()
    shore = rng.uniform(0.66, 0.74)
    sand = art.tone(0.11, 0.38, 0.93)
    line = art.ridge(shore, 0.05, 2.0)
    art.fill_below(nd, line - 0.015, (246, 252, 255))
    art.fill_below(nd, line, sand)
    art.horizon = shore + 0.02
    tufts(art, nd, [mix(sand, (150, 110, 70), 0.3), (250, 240, 230)], "stones")
    row(art, nd, "palm", rng.uniform(0.3, 2), (0.3, 0.45), 0.1)
    horizon = float(surf.getchannel("A").getbbox()[1] / surf.height)  # type: ignore[index]
    return Place((sky_layer(art, horizon), art.layer(surf, 0.5), art.layer(near, 1.0)), shore)


def _town(art: Artist) -> Place:
    rng, h = art.rng, art.height * FINE
    art.horizon = float(rng.uniform(0.66, 0.76))
    lamps: list[tuple[float, float, float, float]] = []
    layers = [sky_layer(art, art.horizon)]
    foot = art.horizon * h
    for near in range(2):
        image, draw = art.sheet()
        x = 0.0
        while x < image.width - 1:
            wide = min(rng.uniform(0.16, 0.36) * art.unit * FINE, image.width - x)
            tall = rng.uniform(0.22, 0.6 - 0.12 * near) * h
            hue = float(rng.uniform(0, 1))
            wall = hsv(hue, float(rng.uniform(0.05, 0.4)), float(rng.uniform(0.5, 0.95)))
            wall = mix(wall, (190, 205, 225), 0.5) if not near else wall
            draw.rectangle((x, foot - tall, x + wide, foot), wall)
            if rng.random() < 0.3:
                draw.polygon(
                    [
                        (x, foot - tall),
                        (x + wide / 2, foot - tall - wide * 0.4),
                        (x + wide, foot - tall),
                    ],
                    mix(wall, (120, 40, 30), 0.5),
                )
            step = max(10.0, 0.06 * art.unit * FINE)
            pane = mix(wall, (60, 80, 110), 0.6)
            for wy in np.arange(foot - tall + step * 0.5, foot - step, step).tolist():
                for wx in np.arange(x + step * 0.45, x + wide - step * 0.6, step).tolist():
                    box = (wx, wy, wx + step * 0.5, wy + step * 0.6)
                    draw.rectangle(box, pane)
                    if near and rng.random() < 0.6:
                        lamps.append(box)
            x += wide
        if near:
            road = art.tone(0.6, 0.08, 0.42)
            kerb = foot + 0.035 * h
            draw.rectangle((0, foot, image.width, kerb), (190, 190, 188))
            draw.rectangle((0, kerb, image.width, h), road)
            dash, gap = (
                art.unit * FINE * 0.16,
                image.width / round(image.width / (art.unit * FINE * 0.3)),
            )
            middle = (kerb + h) / 2
            for wx in np.arange(0, image.width, gap).tolist():
                draw.rectangle((wx, middle, wx + dash, middle + 0.014 * h), (236, 232, 214))
        layer = art.layer(image, (0.5, 1.0)[near])
        if near and art.time != "day":
            pen = ImageDraw.Draw(layer.picture)
            for a, b, c, d in lamps:
                pen.rectangle(
                    (a / 2, b / 2 - layer.top, c / 2, d / 2 - layer.top), (255, 222, 130, 255)
                )
        layers.append(layer)
    return Place(tuple(layers), art.horizon + 0.06)


def _clouds_only(art: Artist) -> Place:
    art.horizon = 1.0
    sky = sky_layer(art, 1.0, cloudy=False)
    clouds(art, sky.picture, 1.0, int(art.rng.integers(4, 9) * art.width / (2 * art.height)) + 1)
    return Place((Layer(sky.picture, 0, 1.0),), None)


def _space(art: Artist) -> Place:
    rng, w, h = art.rng, art.width, art.height
    deep = np.array(art.tone(float(rng.uniform(0.6, 0.85)), 0.7, 0.1))
    glow = np.array(hsv(float(rng.uniform(0.5, 1)), 0.6, 0.5))
    cloud = np.clip(noise(rng, h, w, 1.7)[..., None] * 0.3 + 0.05, 0, 1)
    image = Image.fromarray(np.clip(deep + (glow - deep) * cloud, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(60, 160) * w / h)):
        x, y, tone = rng.uniform(0, w), rng.uniform(0, h), int(rng.integers(90, 256))
        draw.point((x, y), (tone, tone, tone))
        if tone > 230:
            r = 1.2
            draw.ellipse((x - r, y - r, x + r, y + r), (255, 250, 235))
    for _ in range(int(rng.integers(0, 3))):
        r = rng.uniform(0.06, 0.2) * art.unit
        x, y = rng.uniform(r, w - r), rng.uniform(r, h - r)
        colour = np.array(hsv(float(rng.uniform()), 0.5, 0.8))
        px = (np.arange(w, dtype=np.float32)[None] - x) / r
        py = (np.arange(h, dtype=np.float32)[:, None] - y) / r
        lit = np.clip(0.75 - 0.5 * (px + py), 0.12, 1.1)[..., None]
        disc = Image.fromarray(
            (np.clip((1 - np.hypot(px, py)) * r + 0.5, 0, 1) * 255).astype(np.uint8)
        )
        image.paste(Image.fromarray(np.clip(colour * lit, 0, 255).astype(np.uint8)), (0, 0), disc)
    return Place((Layer(image, 0, 1.0),), None)


def _underwater(art: Artist) -> Place:
    rng, w, h = art.rng, art.width, art.height
    hue = float(rng.uniform(0.48, 0.58))
    stops = [(0.0, hsv(hue - 0.02, 0.5, 0.92)), (1.0, hsv(hue + 0.05, 0.85, 0.36))]
    water = ramp(h, stops).resize((w, h))
    rays = noise(rng, 2, w, 1.0)[:1]
    shine = np.clip(rays * 40, 0, 90) * np.linspace(1, 0, h, dtype=np.float32)[:, None] ** 1.5
    water.paste((220, 255, 250), (0, 0), Image.fromarray(shine.astype(np.uint8)))
    art.horizon = float(rng.uniform(0.78, 0.88))
    near, nd = art.sheet()
    sand = art.tone(0.12, 0.3, 0.66)
    art.fill_below(nd, art.ridge(art.horizon, 0.06, 1.8), mix(sand, (20, 90, 120), 0.35))
    for _ in range(int(rng.integers(3, 9) * w / h)):
        x, y = rng.uniform(0, w * FINE), rng.uniform(art.horizon, 0.95) * h * FINE
        tall, wave = rng.uniform(0.12, 0.4) * h * FINE, rng.uniform(0.1, 0.25)
        tone = art.tone(float(rng.choice([0.3, 0.36, 0.95, 0.08])), 0.6, 0.6)
        t = np.linspace(0, 1, 12)
        for at in art.around(x, tall):
            sway = np.sin(t * 5 + x) * wave * 0.3 * tall
            points = list(zip((at + sway).tolist(), (y - t * tall).tolist(), strict=True))
            draw_width = max(3, int(0.035 * art.unit * FINE))
            nd.line(points, tone, draw_width, joint="curve")
    return Place((Layer(light.at(water, art.time), 0, 0.1), art.layer(near, 1.0)), None)


def _room(art: Artist) -> Place:
    rng, h, w = art.rng, art.height * FINE, art.width * FINE
    art.horizon = float(rng.uniform(0.6, 0.72))
    image, draw = art.sheet()
    wall = art.tone(float(rng.uniform()), 0.22, 0.88)
    draw.rectangle((0, 0, w, art.horizon * h), wall)
    if rng.random() < 0.4:  # wallpaper
        stripe = w / round(w / (0.16 * art.unit * FINE))
        for x in np.arange(0, w, stripe).tolist():
            draw.rectangle(
                (x, 0, x + stripe / 2, art.horizon * h), mix(wall, (255, 255, 255), 0.35)
            )
    wood = art.tone(float(rng.uniform(0.04, 0.11)), 0.45, 0.6)
    draw.rectangle((0, art.horizon * h, w, h), wood)
    rows = np.linspace(0, 1, int(rng.integers(4, 7))) ** 1.5
    for y in ((art.horizon + (1 - art.horizon) * rows) * h).tolist():
        draw.line((0, y, w, y), mix(wood, (0, 0, 0), 0.25), 2)
    board = art.horizon * h
    draw.rectangle((0, board - 0.035 * h, w, board), (245, 243, 238))
    step = w / max(1, round(w / (art.unit * FINE * rng.uniform(0.6, 0.9))))
    sky = {"day": (160, 208, 250), "sunset": (250, 150, 90), "night": (16, 20, 52)}[art.time]
    panes: list[tuple[float, float, float, float]] = []
    for x in np.arange(step * rng.uniform(0.1, 0.3), w - 0.3 * step, step).tolist():
        top, wide, tall = rng.uniform(0.1, 0.2) * h, 0.42 * step, rng.uniform(0.22, 0.34) * h
        if x + wide > w:
            continue
        if rng.random() < 0.6:
            draw.rectangle((x - 6, top - 6, x + wide + 6, top + tall + 6), (250, 250, 248))
            panes.append((x, top, x + wide, top + tall))
            draw.rectangle((x, top, x + wide, top + tall), (160, 208, 250))
        else:
            draw.rectangle((x - 6, top - 6, x + wide + 6, top + tall + 6), art.tone(0.09, 0.5, 0.5))
            draw.rectangle((x, top, x + wide, top + tall), art.tone(float(rng.uniform()), 0.4, 0.7))
            r = 0.25 * wide
            cx, cy = x + wide / 2, top + tall / 2
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), art.tone(float(rng.uniform()), 0.5, 0.9))
    layer = art.layer(image.convert("RGB"), 1.0)
    pen = ImageDraw.Draw(layer.picture)
    for a, b, c, d in panes:
        pen.rectangle((a / 2, b / 2, c / 2, d / 2), sky)
        pen.line(((a + c) / 4, b / 2, (a + c) / 4, d / 2), (236, 236, 232), 2)
    return Place((layer,), art.horizon)


_PAINTERS: dict[str, Callable[[Artist], Place]] = {
    "meadow": _meadow,
    "sea": _sea,
    "desert": _desert,
    "snow": _snow,
    "forest": _forest,
    "mountains": _mountains,
    "beach": _beach,
    "city": _town,
    "room": _room,
    "sky": _clouds_only,
    "space": _space,
    "underwater": _underwater,
}
PLACES: tuple[str, ...] = tuple(_PAINTERS)


def paint(name: str, rng: np.random.Generator, width: int, height: int, time: str) -> Place:
    """A place of a name, `width` pixels to its repetition."""
    return _PAINTERS[name](Artist(rng, width, height, time))
