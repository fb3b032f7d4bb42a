"""The codec stage: the closed form is optimal, and training leaves the latents alone."""

from copy import deepcopy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F
from torch.testing import assert_close

from causvid.generation.geometry import Size
from causvid.media import VideoWriter
from causvid.model.codec import TinyCodec
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.training.codec import begin_decoder, fit_codec, fit_decoder, fit_encoder
from causvid.training.config import CodecConfig, DecoderConfig, OptimiserConfig
from causvid.training.decoder import DecoderStage, decoder_loss
from causvid.training.fidelity import measure, reconstruct
from causvid.training.footage import WORLDS, Videos, diorama
from causvid.training.trainer import LoopConfig, finished_average, train
from causvid.world.pixels import clip_to_pixels, diorama_clip

CONFIG = DecoderConfig(
    OptimiserConfig(learning_rate=3e-3, warmup_steps=1, weight_decay=0.0),
    steps=6,
    pool=4,
    pool_steps=4,
    clips=1,
    frames=5,
    crop=(32, 32),
)


SIZES = [Size(48, 80), Size(80, 48), Size(64, 64)]
"""Landscape, portrait and square."""

EXACT = 1e-3
"""Noise of latents that are as good as exact."""


def small_model(channels: int = 6, *, rank: int = 0) -> TinyAutoencoder:
    torch.manual_seed(0)
    return TinyAutoencoder(
        latent_channels=channels,
        encoder_channels=(),
        decoder_channels=(8, 8, 8, 8),
        decoder_blocks=(1, 1, 1),
        shortcut_latents=2,
        shortcut_rank=rank,
    )


def clips(count: int = 8, seed: int = 0) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    return [diorama_clip(rng, frames=5, height=48, width=48) for _ in range(count)]


@pytest.fixture(scope="module")
def fitted() -> TinyAutoencoder:
    model = small_model()
    fit_encoder(model, clips())
    fit_decoder(model, clips(), EXACT)
    return model.eval()


def test_raw_latents_are_white_and_normalised_ones_have_unit_mean_square(fitted):
    codec = TinyCodec(fitted)
    with torch.no_grad():
        latents = [codec.encode(clip_to_pixels([clip]), codec.start()) for clip in clips()]
    normalised = torch.cat(latents).movedim(2, 0).flatten(1)  # [c, n]
    raw = normalised * torch.tensor(fitted.config.latents_std)[:, None]
    assert_close(raw.cov(), torch.eye(6), atol=2e-2, rtol=0)
    assert_close(normalised.var(dim=1).mean(), torch.tensor(1.0), atol=2e-2, rtol=0)
    assert (normalised.var(dim=1).diff() <= 1e-3).all()  # the channels are sorted by weight


def test_no_other_linear_decoder_is_better(fitted):
    best = measure(fitted, clips()).psnr
    weight = fitted.shortcut.decoder.weight
    original = weight.detach().clone()
    for seed in range(3):
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        weight.data.copy_(original + 0.003 * noise)
        assert measure(fitted, clips()).psnr < best
    weight.data.copy_(original)


def test_more_channels_keep_more(fitted):
    poor = small_model(channels=2)
    fit_encoder(poor, clips())
    fit_decoder(poor, clips(), EXACT)
    assert measure(poor, clips()).psnr < measure(fitted, clips()).psnr


@pytest.mark.parametrize("rank", [12, 108])
def test_the_best_linear_decoder_of_a_rank_is_found(fitted, rank):
    """108 mixtures of 108 numbers lose nothing; fewer lose less than a truncated map would."""
    reduced = small_model(rank=rank)
    fit_encoder(reduced, clips())
    fit_decoder(reduced, clips(), EXACT)
    mapped = fitted.shortcut.decoder
    kept = torch.linalg.svd(mapped.weight.detach().flatten(1), full_matrices=False)
    truncated = small_model().eval()
    truncated.load_state_dict(fitted.state_dict())
    truncated.register_to_config(latents_std=fitted.config.latents_std)
    product = (kept.U[:, :rank] * kept.S[:rank]) @ kept.Vh[:rank]
    truncated.shortcut.decoder.weight.data.copy_(product.view_as(mapped.weight))
    psnr, best, naive = (measure(m, clips()).psnr for m in (reduced.eval(), fitted, truncated))
    if rank == 108:
        assert psnr == pytest.approx(best, abs=1e-3) and naive == pytest.approx(best, abs=1e-3)
    else:
        assert naive < psnr < best


def test_a_decoder_fitted_to_noisy_latents_is_better_at_those_alone(fitted):
    filtering = small_model()
    filtering.shortcut.load_state_dict(fitted.shortcut.state_dict())
    filtering.register_to_config(latents_std=fitted.config.latents_std)
    fit_decoder(filtering, clips(), 0.5)
    scale = torch.tensor(fitted.config.latents_std).view(-1, 1, 1)
    real = (clip_to_pixels(clips()) + 1) / 2

    def error(model, noise):
        with torch.no_grad():
            latents = torch.cat([fitted.encode(with_run_up(clip)) for clip in real[:, None]])
            draw = torch.Generator().manual_seed(0)
            latents = latents + noise * scale * torch.randn(latents.shape, generator=draw)
            return (model.shortcut.decode(latents, {})[:, 3:] - real).square().mean()

    assert error(filtering, 0.5) < error(fitted, 0.5)
    assert error(filtering, 0.0) > error(fitted, 0.0)


def with_run_up(pixels: torch.Tensor) -> torch.Tensor:
    """The first picture four times, as a stream begins."""
    return torch.cat([pixels[:, :1]] * 3 + [pixels], dim=1)


def test_a_decoder_begins_with_the_shortcut_alone(fitted):
    clip = clips(1)
    model = small_model().eval()
    model.shortcut.load_state_dict(fitted.shortcut.state_dict())
    assert not torch.equal(reconstruct(model, clip), reconstruct(fitted, clip))
    begin_decoder(model)
    model.register_to_config(latents_std=fitted.config.latents_std)
    assert_close(reconstruct(model, clip), reconstruct(fitted, clip))


@pytest.mark.slow
def test_training_lowers_the_loss_and_leaves_latents_alone(fitted, tmp_path):
    model = small_model()
    model.shortcut.load_state_dict(fitted.shortcut.state_dict())
    model.register_to_config(latents_std=fitted.config.latents_std)
    # Grey pictures instead of the best linear ones, so that there is much to learn at once.
    model.shortcut.decoder.weight.data.zero_()
    model.shortcut.decoder.bias.data.fill_(0.5)
    begin_decoder(model)
    untrained = {name: value.clone() for name, value in model.state_dict().items()}

    def loss(weights: dict[str, torch.Tensor]) -> float:
        candidate = small_model()
        candidate.load_state_dict(weights)
        made = reconstruct(candidate.eval(), clips(seed=1))
        return decoder_loss(made / 2, clip_to_pixels(clips(seed=1)) / 2, 8, CONFIG).item()

    stage = DecoderStage(model, replace(CONFIG, steps=40, clips=3), diorama, SIZES)
    train(stage, LoopConfig(tmp_path), Accelerator(cpu=True))
    trained = TinyAutoencoder.from_pretrained(finished_average(tmp_path)).state_dict()
    assert loss(trained) < loss(untrained)
    for name in untrained:
        if name.startswith("shortcut.encoder"):
            assert torch.equal(trained[name], untrained[name])


def test_a_step_at_the_border_of_cells_counts_more():
    real = torch.zeros(1, 2, 3, 16, 16)
    inside, border = torch.zeros_like(real), torch.zeros_like(real)
    inside[..., 6:10], border[..., 4:12] = 0.1, 0.1
    for made in (inside, border):
        made *= 0.1 / made.mean()  # the same absolute error
    plain = replace(CONFIG, square=0.0, border=1.0)
    heavy = replace(plain, border=6.0)
    assert decoder_loss(inside, real, 4, heavy) == decoder_loss(inside, real, 4, plain)
    assert decoder_loss(border, real, 4, heavy) > decoder_loss(border, real, 4, plain)


def test_a_convolutional_encoder_cannot_be_fitted():
    with pytest.raises(ValueError, match=r"encoder_channels=\(\)"):
        fit_encoder(TinyAutoencoder(encoder_blocks=(0, 0, 0), decoder_blocks=(0, 0, 0)), clips(1))


def test_a_fitted_codec_is_as_good_as_its_shortcut_before_training():
    config = CodecConfig(
        clips=2,
        frames=5,
        latent_channels=6,
        patch_size=1,
        space_scales=(2, 2, 1),
        shortcut_rank=24,
        decoder_channels=(8, 8, 8, 8),
        decoder_blocks=(1, 1, 1),
    )
    model = fit_codec(config, diorama, SIZES)
    assert model.spatial_stride == 4
    assert measure(model, clips(2)).psnr > 20
    again = fit_codec(config, diorama, SIZES)
    assert_close(again.state_dict(), model.state_dict())


def panned(rng: np.random.Generator, frames: int, size: Size) -> tuple[torch.Tensor, str]:
    """Smooth noise seen by a camera that pans by up to two pixels a frame, or stands."""
    speed = float(rng.uniform(-2, 2)) * bool(rng.random() < 0.8)
    wide = size.width + 4 * frames
    noise = torch.from_numpy(rng.normal(size=(1, 3, size.height // 6, wide // 6))).float()
    picture = F.interpolate(noise, size=(size.height, wide), mode="bicubic")[0] * 40 + 128
    columns = torch.arange(size.width) + 2 * frames
    seen = []
    for frame in range(frames):
        at = columns + speed * frame
        share = at - at.floor()
        left = at.floor().long()
        seen.append(picture[..., left] * (1 - share) + picture[..., left + 1] * share)
    return torch.stack(seen).clamp(0, 255).round().byte().permute(0, 2, 3, 1), "a pan"


@cache
def fitted_to_pans(*, motion: bool, clips: int = 8, convolutions: bool = False) -> TinyAutoencoder:
    config = CodecConfig(
        clips=clips,
        frames=9,
        latent_noise=EXACT,
        latent_channels=16,
        patch_size=4,
        space_scales=(2,),
        time_scales=(4,),
        shortcut_rank=0,
        motion=motion,
        decoder_channels=(8, 8) if convolutions else (),
        decoder_blocks=(1,) if convolutions else (),
    )
    return fit_codec(config, panned, SIZES)


def test_motion_that_is_undone_makes_pans_as_good_as_pictures_that_stand():
    rng = np.random.default_rng(5)
    pans = [panned(rng, 9, SIZES[i % 3])[0] for i in range(6)]
    plain, moved = (measure(fitted_to_pans(motion=motion), pans) for motion in (False, True))
    assert moved.psnr > plain.psnr + 2


def test_motion_weighs_as_much_as_the_strongest_component():
    model = fitted_to_pans(motion=True)
    rng, codec = np.random.default_rng(0), TinyCodec(model)
    clips = [panned(rng, 9, SIZES[i % 3])[0] for i in range(8)]
    with torch.no_grad():
        made = [codec.encode(clip_to_pixels([clip]), codec.start()) for clip in clips]
    energy = torch.cat([latents.movedim(2, 0).flatten(1) for latents in made], 1).square().mean(1)
    assert energy[-2:].mean().item() == pytest.approx(energy[0].item(), rel=0.1)
    assert energy.mean().item() == pytest.approx(1, rel=0.1)


def test_sizes_take_turns_and_every_clip_comes_from_the_footage():
    asked = []

    def footage(rng, frames, size):
        asked.append((frames, size))
        return panned(rng, frames, size)

    config = CodecConfig(
        clips=4,
        frames=5,
        latent_channels=4,
        space_scales=(2, 2, 1),
        shortcut_rank=0,
        decoder_channels=(8, 8, 8, 8),
        decoder_blocks=(1, 1, 1),
    )
    model = fit_codec(config, footage, SIZES)
    assert asked == [(5, SIZES[i % 3]) for i in range(4)]
    asked.clear()
    stage = DecoderStage(model, replace(CONFIG, pool=24), footage, SIZES)
    stage.prepare(Accelerator(cpu=True))
    assert stage.loss(0, (0, 0, 0)).isfinite()
    assert len(asked) == 24 and {size for _, size in asked} == set(SIZES)


@pytest.mark.parametrize(("motion", "footage"), [(False, diorama), (True, panned)])
def test_a_stopped_run_continues_bit_by_bit_and_leaves_latents_alone(motion, footage, tmp_path):
    begun = fitted_to_pans(motion=motion, clips=2, convolutions=True)

    def run(folder: str, *stops: int | None) -> dict[str, torch.Tensor]:
        for stop in stops:
            stage = DecoderStage(deepcopy(begun), CONFIG, footage, SIZES)
            train(stage, LoopConfig(tmp_path / folder), Accelerator(cpu=True), stop=stop)
        return TinyAutoencoder.from_pretrained(finished_average(tmp_path / folder)).state_dict()

    whole, resumed = run("whole", None), run("parts", 3, None)
    kept = ("shortcut.encoder", "shortcut.motion")
    for name, value in whole.items():
        assert torch.equal(value, resumed[name])
        assert torch.equal(value, begun.state_dict()[name]) == name.startswith(kept)


def test_clips_are_cut_from_a_folder_of_videos(tmp_path):
    rng = np.random.default_rng(0)
    for name, frames in (("long", 24), ("short", 6)):
        with VideoWriter(tmp_path / f"{name}.mp4", fps=8) as writer:
            writer.append(panned(rng, frames, Size(48, 64))[0].numpy())
        (tmp_path / f"{name}.txt").write_text(f"a {name} pan\nit is {name}\n")
    footage = Videos(tmp_path, fps=8)
    drawn = [footage(np.random.default_rng(seed), 9, Size(32, 48)) for seed in range(12)]
    assert {caption for _, caption in drawn} == {"a long pan", "it is long"}
    assert all(clip.shape == (9, 32, 48, 3) for clip, _ in drawn)
    again = footage(np.random.default_rng(3), 9, Size(32, 48))
    assert torch.equal(again[0], drawn[3][0])
    assert not torch.equal(drawn[0][0], drawn[1][0])
    with pytest.raises(ValueError, match="2 videos has 24 frames, a clip has 25"):
        footage(rng, 25, Size(32, 48))


@pytest.mark.parametrize("world", WORLDS)
def test_every_world_draws_clips_of_any_size(world):
    for size in SIZES:
        clip, caption = WORLDS[world](np.random.default_rng(1), 5, size)
        assert clip.shape == (5, *size, 3) and clip.dtype == torch.uint8 and caption
