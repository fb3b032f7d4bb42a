"""Motion compensation: what moves is found, undone, and done again."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from causvid.model.codec import TinyCodec
from causvid.model.motion import REACH, align, displace, estimate_motion
from causvid.model.tiny_autoencoder import TinyAutoencoder


def texture(seed: int, height: int = 96, width: int = 160) -> torch.Tensor:
    """A smooth picture [3, H, W] in [0, 1] with a margin of 16 pixels."""
    noise = torch.rand(1, 3, height // 6, width // 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size=(height + 32, width + 32), mode="bicubic")[0].clamp(0, 1)


def panned(picture: torch.Tensor, x: float, y: float, frames: int = 4) -> torch.Tensor:
    """Frames [1, t, 3, H, W] in which what is seen moves by x, y pixels a frame."""
    height, width = (side - 32 for side in picture.shape[-2:])
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    made = []
    for frame in range(frames):
        time = frame - (frames - 1) / 2
        place = torch.stack([columns + 16 - time * x, rows + 16 - time * y], dim=-1) + 0.5
        size = torch.tensor([width + 32, height + 32])
        grid = (place * 2 / size - 1)[None].float()
        made.append(F.grid_sample(picture[None], grid, mode="bicubic", align_corners=False))
    return torch.stack(made, dim=1).clamp(0, 1)


@pytest.mark.parametrize(
    ("x", "y"), [(0.0, 0.0), (1.0, 0.0), (-1.5, 0.0), (0.4, -0.7), (2.0, 1.0), (3.2, 0.0)]
)
def test_a_pan_is_found_undone_and_done_again(x, y):
    frames = panned(texture(1), x, y)
    motion = estimate_motion(frames, 16)
    assert motion.shape == (1, 2, 6, 10)
    assert_close(motion.median(-1)[0].median(-1)[0][0], torch.tensor([x, y]), atol=0.05, rtol=0)
    aligned = align(frames, motion)
    inside = (..., slice(12, -12), slice(12, -12))
    middle = panned(texture(1), 0, 0, 1).expand_as(frames)
    still = (frames - middle)[inside].square().mean()
    assert (aligned - middle)[inside].square().mean() <= 0.01 * still + 1e-9
    assert (displace(aligned, motion) - frames)[inside].square().mean() <= 0.01 * still + 1e-9


def test_frames_that_are_alike_are_left_exactly_as_they_are():
    frames = panned(texture(2), 0, 0)
    motion = estimate_motion(frames, 16)
    assert not motion.any()
    assert_close(align(frames, motion), frames)
    assert_close(displace(frames, motion), frames)


def test_two_parts_of_a_picture_move_each_in_its_way():
    left, right = panned(texture(3), 1.5, 0), panned(texture(4), -1.0, 0.5)
    frames = torch.cat([left[..., :80], right[..., 80:]], dim=-1)
    motion = estimate_motion(frames, 16)[0]
    assert_close(motion[:, 2, 2], torch.tensor([1.5, 0.0]), atol=0.1, rtol=0)
    assert_close(motion[:, 2, 8], torch.tensor([-1.0, 0.5]), atol=0.1, rtol=0)


def test_what_has_no_texture_moves_with_its_neighbours():
    picture = texture(5)
    picture[:, 56:72, 90:106] = 0.5
    motion = estimate_motion(panned(picture, 1.5, 0), 16)[0, 0]
    assert (motion - 1.5).abs().max() < 0.3


def test_another_picture_is_no_motion():
    frames = torch.cat([panned(texture(6), 0, 0)[:, :2], panned(texture(7), 0, 0)[:, :2]], dim=1)
    motion = estimate_motion(frames, 16)
    assert (motion.abs() < 0.2).float().mean() > 0.8
    assert motion.abs().max() <= REACH


def test_sides_need_not_be_whole_cells():
    frames = panned(texture(8, 72, 104), 1.0, 0)
    motion = estimate_motion(frames, 16)
    assert motion.shape == (1, 2, 5, 7)
    assert_close(motion[0, :, 1:4, 1:5].mean((1, 2)), torch.tensor([1.0, 0.0]), atol=0.1, rtol=0)


@pytest.fixture(scope="module")
def model() -> TinyAutoencoder:
    torch.manual_seed(0)
    return TinyAutoencoder(
        latent_channels=6,
        patch_size=4,
        encoder_channels=(),
        decoder_channels=(8, 8),
        decoder_blocks=(1,),
        space_scales=(2,),
        time_scales=(4,),
        shortcut_latents=2,
        motion=True,
    ).eval()


@torch.no_grad()
def test_the_last_two_channels_are_motion(model):
    pixels = panned(texture(9), 1.5, -0.5, 8)
    latents = model.encode(pixels)
    assert latents.shape == (1, 2, 6, 12, 20)
    assert_close(
        latents[0, :, -2:, 2:-2, 2:-2].mean((0, 2, 3)), torch.tensor([1.5, -0.5]), atol=0.1, rtol=0
    )


@torch.no_grad()
def test_a_stream_with_motion_equals_the_whole_clip(model):
    codec = TinyCodec(model)
    pixels = panned(texture(10), 1.5, 0.5, 13) * 2 - 1
    whole = codec.encode(pixels, codec.start())
    state = codec.start()
    parts = [codec.encode(part, state) for part in pixels.split([1, 4, 8], dim=1)]
    assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)
    shown = codec.decode(whole, codec.start())
    state = codec.start()
    parts = [codec.decode(part, state) for part in whole.split([1, 1, 2], dim=1)]
    assert_close(torch.cat(parts, dim=1), shown, atol=1e-4, rtol=1e-4)


def test_motion_needs_a_linear_encoder_and_two_more_channels():
    with pytest.raises(ValueError, match="two latent channels"):
        TinyAutoencoder(motion=True)
    with pytest.raises(ValueError, match="latent_channels > 2"):
        TinyAutoencoder(latent_channels=2, encoder_channels=(), shortcut_latents=1, motion=True)
