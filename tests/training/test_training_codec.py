"""The codec stage: the closed form is optimal, and training leaves the latents alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.testing import assert_close

from causvid.model.codec import TinyCodec
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.training.codec import begin_decoder, fit_codec, fit_decoder, fit_encoder
from causvid.training.config import CodecConfig, DecoderConfig, OptimiserConfig
from causvid.training.decoder import DecoderStage, decoder_loss
from causvid.training.fidelity import measure, reconstruct
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

    stage = DecoderStage(model, replace(CONFIG, steps=40, clips=3))
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


def test_a_stopped_run_continues_bit_by_bit(fitted, tmp_path):
    def run(folder: str, *stops: int | None) -> dict[str, torch.Tensor]:
        for stop in stops:
            model = small_model()
            model.load_state_dict(fitted.state_dict())
            model.register_to_config(latents_mean=[0.0] * 6, latents_std=[1.0] * 6)
            stage = DecoderStage(model, CONFIG)
            train(stage, LoopConfig(tmp_path / folder), Accelerator(cpu=True), stop=stop)
        return TinyAutoencoder.from_pretrained(finished_average(tmp_path / folder)).state_dict()

    whole, resumed = run("whole", None), run("parts", 3, None)
    for name, value in whole.items():
        assert torch.equal(value, resumed[name])


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
    model = fit_codec(config)
    assert model.spatial_stride == 4
    assert measure(model, clips(2)).psnr > 20
    again = fit_codec(config)
    assert_close(again.state_dict(), model.state_dict())
