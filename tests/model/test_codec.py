"""Streaming codecs: pieces equal the whole, the past is settled, streams never meet."""

import json
import math
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load, load_file, save
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from causvid.model.codec import TinyCodec, VideoCodec, WanCodec, codec_for
from causvid.model.tiny_autoencoder import EnlargingConv, TinyAutoencoder

GOLDEN = Path(__file__).parents[1] / "golden"

# 21 pixel frames are 6 latents; a piece is a number of latents.
PATTERNS = [(1, 1, 1, 1, 1, 1), (3, 3), (1, 3, 2), (6,)]


def wan_vae() -> AutoencoderKLWan:
    """The golden weights, under their official names in the file."""
    names = json.loads((GOLDEN / "keys/vae_official_to_diffusers.json").read_text())
    vae = AutoencoderKLWan(**names["diffusers_config"])
    official = load_file(GOLDEN / "vae/weights_official.safetensors")
    renamed = {names["map_official_to_diffusers"][name]: x for name, x in official.items()}
    vae.load_state_dict(renamed)
    return vae.eval()


def published_tiny() -> TinyAutoencoder:
    """The published architecture, filled by the formula that made the golden file."""
    shapes = json.loads((GOLDEN / "tiny_codec/shapes.json").read_text())
    weights = {}
    for k, (name, shape) in enumerate(sorted(shapes.items())):
        fan = math.prod(shape[1:]) if len(shape) > 1 else 16
        i = torch.arange(math.prod(shape), dtype=torch.float64)
        phase = torch.frac(i * 0.6180339887498949 + k * 0.1234567)
        values = math.sqrt(2) * torch.cos(2 * math.pi * phase) * 1.1 / math.sqrt(fan)
        weights[name] = values.float().view(shape)
    model = TinyAutoencoder()
    model.load_state_dict(weights)
    return model.eval()


def amid_grey(model: TinyAutoencoder) -> TinyAutoencoder:
    """Random weights whose pictures vary within [0, 1] rather than sit at its ends."""
    last = list(model.decoder.values())[-1]
    nn.init.normal_(last.weight, std=0.2)
    nn.init.constant_(last.bias, 0.5)
    if model.shortcut is not None:
        nn.init.normal_(model.shortcut.decoder.weight, std=0.01)
        nn.init.zeros_(model.shortcut.decoder.bias)
    return model.eval()


def pocket_tiny() -> TinyAutoencoder:
    """All options on: coarse stride, linear encoder, shortcut with memory, normalised latents."""
    torch.manual_seed(0)
    model = TinyAutoencoder(
        latent_channels=8,
        patch_size=2,
        encoder_channels=(),
        decoder_channels=(16, 12, 8, 8),
        decoder_blocks=(1, 1, 1),
        space_scales=(2, 2, 2),
        time_scales=(1, 2, 2),
        shortcut_latents=2,
        shortcut_rank=40,
        latents_mean=[0.1 * i for i in range(8)],
        latents_std=[1.0 + 0.2 * i for i in range(8)],
    )
    return amid_grey(model)


def small_tiny() -> TinyAutoencoder:
    """Convolutions both ways, no shortcut."""
    torch.manual_seed(1)
    model = TinyAutoencoder(
        latent_channels=4,
        encoder_channels=(8, 8, 8, 8),
        decoder_channels=(16, 8, 8, 8),
        encoder_blocks=(1, 1, 1),
        decoder_blocks=(1, 1, 1),
    )
    return amid_grey(model)


@pytest.fixture(scope="module", params=["wan", "tiny", "pocket"])
def codec(request: pytest.FixtureRequest) -> VideoCodec:
    return codec_for({"wan": wan_vae, "tiny": small_tiny, "pocket": pocket_tiny}[request.param]())


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def clip(codec: VideoCodec, seed: int = 0, frames: int = 21, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(batch, frames, 3, 32, 48, generator=generator) * 2 - 1
    return noise.cumsum(1) / math.sqrt(frames)  # frames resemble their predecessors


def latents_of(codec: VideoCodec, seed: int = 0, batch: int = 1) -> torch.Tensor:
    stride = codec.spatial_stride
    shape = (batch, 6, codec.latent_channels, 32 // stride, 48 // stride)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def encode_pieces(codec: VideoCodec, pixels: torch.Tensor, pattern: tuple[int, ...]):
    state, start, parts = codec.start(), 0, []
    for piece in pattern:
        frames = codec.temporal_stride * piece - (3 if start == 0 else 0)
        parts.append(codec.encode(pixels[:, start : start + frames], state))
        start += frames
    return torch.cat(parts, dim=1)


def decode_pieces(codec: VideoCodec, latents: torch.Tensor, pattern: tuple[int, ...]):
    state = codec.start()
    return torch.cat([codec.decode(x, state) for x in latents.split(pattern, dim=1)], dim=1)


# Parity with the reference implementations -------------------------------------------------------


def test_wan_latents_equal_the_official_encoder():
    golden = load_file(GOLDEN / "vae/streams.safetensors")
    codec = WanCodec(wan_vae())
    latents = codec.encode(golden["video"], codec.start())
    assert_close(latents, golden["latents"], atol=5e-5, rtol=0)


def test_wan_pixels_equal_the_official_decoder():
    golden = load_file(GOLDEN / "vae/streams.safetensors")
    codec = WanCodec(wan_vae())
    pixels = codec.decode(golden["z"], codec.start())
    assert_close(pixels, golden["decoded"].clamp(-1, 1), atol=5e-5, rtol=0)


def test_wan_pieces_equal_the_one_shot_calls_of_diffusers():
    vae = wan_vae()
    codec = WanCodec(vae)
    pixels, latents = clip(codec), latents_of(codec)
    mean = torch.tensor(vae.config.latents_mean).view(-1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(-1, 1, 1)

    encoded = vae.encode(pixels.transpose(1, 2)).latent_dist.mode().transpose(1, 2)
    assert_close(encode_pieces(codec, pixels, (1, 3, 2)) * std + mean, encoded)
    decoded = vae.decode((latents * std + mean).transpose(1, 2)).sample.transpose(1, 2)
    assert_close(decode_pieces(codec, latents, (1, 3, 2)), decoded)


def test_published_tiny_weights_load_by_name_and_agree():
    golden = load_file(GOLDEN / "tiny_codec/clips.safetensors")
    model = published_tiny()
    assert_close(model.encode(golden["video"]), golden["encoded"], atol=1e-4, rtol=0)
    codec = TinyCodec(model)
    for pattern in ((4,), (1, 3)):
        decoded = (decode_pieces(codec, golden["latents"], pattern) + 1) / 2
        assert_close(decoded, golden["decoded"], atol=1e-4, rtol=0)


# Laws of a stream --------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", PATTERNS)
def test_encoding_in_pieces_equals_encoding_at_once(codec, pattern):
    pixels = clip(codec, batch=2)
    assert_close(encode_pieces(codec, pixels, pattern), codec.encode(pixels, codec.start()))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_decoding_in_pieces_equals_decoding_at_once(codec, pattern):
    latents = latents_of(codec, batch=2)
    assert_close(decode_pieces(codec, latents, pattern), codec.decode(latents, codec.start()))


def test_the_first_latent_is_one_frame_and_every_other_four(codec):
    state, latents = codec.start(), latents_of(codec)
    lengths = [codec.decode(x, state).shape[1] for x in latents.split((1, 2, 3), dim=1)]
    assert lengths == [1, 8, 12]
    state, pixels = codec.start(), clip(codec)
    lengths = [codec.encode(x, state).shape[1] for x in pixels.split((1, 8, 12), dim=1)]
    assert lengths == [1, 2, 3]


def test_pixels_stay_in_range(codec):
    pixels = codec.decode(10 * latents_of(codec), codec.start())
    assert pixels.min() >= -1
    assert pixels.max() <= 1


def test_the_future_never_changes_the_past(codec):
    pixels, latents = clip(codec), latents_of(codec)
    other_pixels, other_latents = clip(codec, seed=1), latents_of(codec, seed=1)
    other_pixels[:, :9], other_latents[:, :3] = pixels[:, :9], latents[:, :3]
    encoded, other = (codec.encode(x, codec.start()) for x in (pixels, other_pixels))
    assert_close(encoded[:, :3], other[:, :3])
    assert not torch.equal(encoded[:, 3:], other[:, 3:])
    decoded, other = (codec.decode(x, codec.start()) for x in (latents, other_latents))
    assert_close(decoded[:, :9], other[:, :9])
    assert not torch.equal(decoded[:, 9:], other[:, 9:])


def test_two_interleaved_streams_equal_two_separate_ones(codec):
    latents = [latents_of(codec, seed) for seed in (0, 1)]
    pixels = [clip(codec, seed) for seed in (0, 1)]
    states = [codec.start(), codec.start()]
    decoded: list[list[torch.Tensor]] = [[], []]
    encoded: list[list[torch.Tensor]] = [[], []]
    for k in range(6):
        for i in (0, 1):
            frames = slice(0, 1) if k == 0 else slice(4 * k - 3, 4 * k + 1)
            encoded[i].append(codec.encode(pixels[i][:, frames], states[i]))
            decoded[i].append(codec.decode(latents[i][:, k : k + 1], states[i]))
    for i in (0, 1):
        alone = (1,) * 6
        assert torch.equal(torch.cat(decoded[i], 1), decode_pieces(codec, latents[i], alone))
        assert torch.equal(torch.cat(encoded[i], 1), encode_pieces(codec, pixels[i], alone))


@pytest.mark.parametrize("settled", [0, 1, 3])
def test_a_stored_stream_resumes_bit_by_bit(codec, settled):
    latents, pixels = latents_of(codec), clip(codec)
    frames = 4 * settled - 3 if settled else 0
    state = codec.start()
    if settled:
        codec.decode(latents[:, :settled], state)
        codec.encode(pixels[:, :frames], state)
    resumed = codec.restore(load(save(state.tensors())))
    for s in (latents[:, settled:], latents[:, :1]):
        assert torch.equal(codec.decode(s, state), codec.decode(s, resumed))
    rest = pixels[:, frames:]
    assert torch.equal(codec.encode(rest, state), codec.encode(rest, resumed))


def test_a_stored_state_does_not_change_while_the_stream_goes_on(codec):
    latents = latents_of(codec)
    state = codec.start()
    codec.decode(latents[:, :2], state)
    resumed = codec.restore(state.tensors())
    expected = codec.decode(latents[:, 2:], state)
    assert torch.equal(codec.decode(latents[:, 2:], resumed), expected)


def test_codecs_leave_no_state_in_the_module():
    vae = wan_vae()
    before = set(vars(vae))
    codec = WanCodec(vae)
    codec.decode(latents_of(codec), codec.start())
    codec.encode(clip(codec), codec.start())
    assert set(vars(vae)) == before


def test_latents_are_normalised_by_the_config_of_the_weights():
    model = pocket_tiny()
    codec = TinyCodec(model)
    pixels = clip(codec)
    latents = codec.encode(pixels, codec.start())
    repeated = torch.cat([pixels[:, :1].expand(-1, 3, -1, -1, -1), pixels], dim=1)
    raw = model.encode((repeated + 1) / 2)
    mean = torch.tensor(model.config.latents_mean).view(-1, 1, 1)
    std = torch.tensor(model.config.latents_std).view(-1, 1, 1)
    assert_close(latents * std + mean, raw)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_an_enlarging_convolution_is_one_of_the_enlarged_picture(scale):
    conv = EnlargingConv(5, 7, scale).double()
    small = torch.randn(2, 5, 6, 4, dtype=torch.float64)
    large = F.interpolate(small, scale_factor=scale, mode="nearest")
    assert_close(conv(small), F.conv2d(large, conv.weight, padding=1))


def test_a_saved_tiny_autoencoder_loads_with_its_config(tmp_path):
    model = pocket_tiny()
    model.save_pretrained(tmp_path)
    again = TinyAutoencoder.from_pretrained(tmp_path)
    latents = latents_of(TinyCodec(model))
    assert torch.equal(model.decode(latents), again.decode(latents))
    assert again.config.latents_std == model.config.latents_std


# Errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [0, 2, 4])
def test_a_first_piece_of_wrong_length_is_refused(codec, frames):
    with pytest.raises(ValueError, match=rf"first call .* 1 \+ 4k pixel frames, got {frames}"):
        codec.encode(clip(codec)[:, :frames], codec.start())


@pytest.mark.parametrize("frames", [0, 1, 5])
def test_a_later_piece_of_wrong_length_is_refused(codec, frames):
    state = codec.start()
    codec.encode(clip(codec)[:, :1], state)
    with pytest.raises(ValueError, match=f"later call .* 4k pixel frames, got {frames}"):
        codec.encode(clip(codec)[:, :frames], state)


def test_pictures_that_do_not_divide_into_latents_are_refused(codec):
    with pytest.raises(ValueError, match="multiples of"):
        codec.encode(torch.zeros(1, 1, 3, 30, 48), codec.start())


def test_latents_of_another_codec_are_refused(codec):
    with pytest.raises(ValueError, match=r"expected latents \[b, f, "):
        codec.decode(torch.zeros(1, 1, 5, 4, 6), codec.start())


def test_a_state_serves_one_picture_size(codec):
    state = codec.start()
    codec.decode(latents_of(codec), state)
    with pytest.raises(ValueError, match="one CodecState per stream"):
        codec.decode(latents_of(codec, batch=2), state)


def test_a_foreign_state_is_refused(codec):
    with pytest.raises(ValueError, match="not a codec state"):
        codec.restore({"keys": torch.zeros(1)})


def test_unknown_weights_are_refused():
    with pytest.raises(ValueError, match="no streaming codec for Linear"):
        codec_for(nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder_channels": ()}, "no convolutions and no shortcut"),
        ({"decoder_channels": (8, 8)}, "3 stages need 4 widths"),
        ({"time_scales": (2, 2)}, "same number of stages"),
        ({"shortcut_latents": 1, "shortcut_rank": 769}, "at most 768"),
    ],
)
def test_an_inconsistent_architecture_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TinyAutoencoder(**options)
