"""Motion compensation: what moves in a group of frames is brought to where it is in the middle.

A linear code of still pictures needs a fraction of the numbers that one of moving pictures needs:
panned by a pixel or two a frame, fine detail is another pattern in every frame. Aligned frames are
nearly alike, and how they move is a smooth field of two numbers.

Shapes: groups of frames [n, t, c, H, W]; motion [n, 2, h, w] in pixels a frame, to the right and
down, of cells of a grid that covers the picture.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

REACH = 4.0
"""Fastest motion that is found, in pixels a frame along either axis."""

_STEPS = 3  # of the search, on either side of standing still
_STILL = 0.9  # share of its difference that standing still is charged with in the search
_GAIN = 0.7  # share of the change in time that motion may leave at most, to be believed
_FLAT = 1e-5  # squared gradients below which nothing is learned of motion
_SMOOTH = 1e-3  # squared gradients at which a cell believes its neighbours as much as itself
_SPREAD = 6  # rounds in which neighbours are asked
_ROUNDS = 4  # of refinement


def estimate_motion(groups: Tensor, cell: int) -> Tensor:
    """Motion of every cell of `cell` (a multiple of 2) pixels, the last ones padded.

    A coarse search that matches the first and the last frame, refined by Gauss-Newton steps on all
    frames (Lucas and Kanade), between which neighbours are brought together: steps of cells by
    themselves end in as many places. Where that explains little of what changes, nothing moves;
    cells without texture move as their neighbours do.
    """
    height, width = groups.shape[-2:]
    light = groups.float().mean(2, keepdim=True)
    padding = (0, -width % cell, 0, -height % cell)
    if any(padding):
        light = F.pad(light.flatten(0, 1), padding, mode="replicate").unflatten(0, light.shape[:2])
    half = F.avg_pool2d(light.flatten(0, 1), 2).unflatten(0, light.shape[:2])
    found = _search(half[:, 0], half[:, -1], cell // 2) * (2 / (groups.shape[1] - 1))
    for _ in range(_ROUNDS):
        found = _blurred(_settled(*_refined(half, found, cell // 2)))
    found, moments = _refined(light, 2 * found, cell)
    moving, still = _change(align(light, found, "bilinear"), cell), _change(light, cell)
    found = torch.where(moving < _GAIN * still, found, 0).clamp(-REACH, REACH)
    return _settled(found, moments).clamp(-REACH, REACH)


def align(frames: Tensor, motion: Tensor, mode: str = "bicubic") -> Tensor:
    """Every frame with its contents where they are in the middle of the group."""
    flow = _enlarged(motion, frames.shape[-2:])
    places = _pixels(flow) + _times(frames) * flow[:, None]
    return _sampled(frames.flatten(0, 1), places.flatten(0, 1), mode).view(frames.shape)


def displace(frames: Tensor, motion: Tensor) -> Tensor:
    """The inverse of `align`, as far as neighbours move alike."""
    height, width = frames.shape[-2:]
    size = motion.new_tensor([motion.shape[-1] / width, motion.shape[-2] / height]).view(2, 1, 1)
    times = _times(frames)
    # The motion at a pixel is that of what is there now, and the field is that of the middle.
    origins = _pixels(motion) - times * motion[:, None] * size
    spread = motion[:, None].expand(-1, frames.shape[1], -1, -1, -1).flatten(0, 1)
    flow = _enlarged(_sampled(spread, origins.flatten(0, 1), "bilinear"), frames.shape[-2:])
    flow = flow.unflatten(0, frames.shape[:2])
    places = (_pixels(flow) - times * flow).flatten(0, 1)
    return _sampled(frames.flatten(0, 1), places, "bilinear").view(frames.shape)


def _search(first: Tensor, last: Tensor, cell: int) -> Tensor:
    """Displacement [n, 2, h, w] from the first picture [n, 1, H, W] to the last, even pixels."""
    height, width = first.shape[-2:]
    first, last = (F.pad(x, (_STEPS,) * 4, mode="replicate") for x in (first, last))
    offsets = range(-_STEPS, _STEPS + 1)
    steps = [(x, y) for y in offsets for x in offsets]
    costs = []
    for x, y in steps:
        left, top = _STEPS - x, _STEPS - y
        right, bottom = _STEPS + x, _STEPS + y
        before = first[..., top : top + height, left : left + width]
        after = last[..., bottom : bottom + height, right : right + width]
        cost = _blurred(F.avg_pool2d((before - after).square(), cell))
        costs.append((cost if x or y else _STILL * cost) + _FLAT * (abs(x) + abs(y)))
    table = torch.cat(costs, dim=1)
    best = table.argmin(1, keepdim=True)
    found = torch.tensor(steps, device=first.device)[best[:, 0]].movedim(-1, 1).to(first)
    # Between two steps lies the vertex of the parabola through three costs.
    least, stride = table.gather(1, best), torch.tensor([1, len(offsets)], device=first.device)
    sides = [
        table.gather(1, (best + sign * stride.view(1, 2, 1, 1)).clamp(0, len(steps) - 1))
        for sign in (-1, 1)
    ]
    bend = (sides[0] + sides[1] - 2 * least).clamp_min(_FLAT)
    between = ((sides[0] - sides[1]) / (2 * bend)).clamp(-0.5, 0.5)
    return 2 * (found + torch.where(found.abs() < _STEPS, between, 0))


def _refined(light: Tensor, motion: Tensor, cell: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A better motion, and the squared gradients of its cells: xx, xy, yy [n, h, w]."""
    times = _times(light)
    aligned = align(light, motion, "bilinear")
    drift, weight = (times * aligned).sum(1), times.square().sum()
    wide = F.pad(aligned.mean(1), (1, 1, 1, 1), mode="replicate")
    x = (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2
    y = (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2
    products = [weight * x * x, weight * x * y, weight * y * y, -drift * x, -drift * y]
    cells = _blurred(F.avg_pool2d(torch.cat(products, dim=1), cell))
    xx, xy, yy, right, down = cells.unbind(1)
    step = _solved(xx + _FLAT, xy, yy + _FLAT, right, down)
    return motion + step.clamp(-1, 1), (xx, xy, yy)


def _settled(found: Tensor, moments: tuple[Tensor, ...]) -> Tensor:
    """Motion of which every cell believes as much as its texture shows, and else its neighbours."""
    xx, xy, yy = moments
    motion = found
    for _ in range(_SPREAD):
        near = _SMOOTH * _blurred(motion)
        x = xx * found[:, 0] + xy * found[:, 1] + near[:, 0]
        y = xy * found[:, 0] + yy * found[:, 1] + near[:, 1]
        motion = _solved(xx + _SMOOTH, xy, yy + _SMOOTH, x, y)
    return motion


def _solved(a: Tensor, b: Tensor, c: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The solution [n, 2, h, w] of [[a, b], [b, c]] v = (x, y), cell by cell."""
    return torch.stack([c * x - b * y, a * y - b * x], dim=1) / (a * c - b * b)[:, None]


def _change(light: Tensor, cell: int) -> Tensor:
    """Variance in time [n, 1, h, w]."""
    away = (light - light.mean(1, keepdim=True)).square().mean((1, 2))
    return _blurred(F.avg_pool2d(away[:, None], cell))


def _blurred(cells: Tensor) -> Tensor:
    """Every cell with half of its neighbours on each side."""
    row = cells.new_tensor([0.25, 0.5, 0.25])
    kernel = (row[:, None] * row).expand(cells.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(cells, (1, 1, 1, 1), mode="replicate"), kernel, groups=cells.shape[1])


def _times(frames: Tensor) -> Tensor:
    """Times [1, t, 1, 1, 1] of frames from the middle of their group."""
    count = frames.shape[1]
    times = torch.arange(count, device=frames.device, dtype=frames.dtype) - (count - 1) / 2
    return times.view(1, count, 1, 1, 1)


def _pixels(x: Tensor) -> Tensor:
    """Places [2, H, W] of the pixels of a picture: right, down."""
    rows, columns = (torch.arange(size, device=x.device, dtype=x.dtype) for size in x.shape[-2:])
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))


def _enlarged(motion: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(motion, size=tuple(size), mode="bilinear", align_corners=False)


def _sampled(pictures: Tensor, places: Tensor, mode: str) -> Tensor:
    """Pictures [n, c, H, W] at places [n, 2, H, W]; beyond an edge is what is at the edge."""
    height, width = pictures.shape[-2:]
    size = places.new_tensor([width, height]).view(2, 1, 1)
    grid = ((places + 0.5) * 2 / size - 1).movedim(1, -1)
    return F.grid_sample(pictures, grid, mode=mode, padding_mode="border", align_corners=False)
