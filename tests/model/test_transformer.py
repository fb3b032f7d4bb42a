import copy

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend
from torch.testing import assert_close

from causvid.model.attention import block_causal_mask, teacher_forcing_mask
from causvid.model.cache import GradientMemory, KVCache
from causvid.model.transformer import CausalWanTransformer

LATENTS = (1, 7, 8, 4, 6)  # b, f, c, h, w


@pytest.fixture
def clip():
    torch.manual_seed(0)
    return torch.randn(LATENTS)


@pytest.fixture
def times():
    return torch.tensor([[0.9, 0.3, 0.3, 0.3, 0.6, 0.6, 0.6]])


@pytest.fixture
def text():
    torch.manual_seed(1)
    return torch.randn(1, 12, 16)


def new_cache(window=7, sink=0, batch=1):
    return KVCache(
        num_layers=2,
        batch=batch,
        heads=2,
        head_dim=16,
        grid=(4, 6),
        window=window,
        sink=sink,
    )


def run_cached(model, clip, times, text, sizes, cache):
    parts = []
    cached_text = model.encode_text(text)
    for x, t in zip(clip.split(sizes, 1), times.split(sizes, 1), strict=True):
        cache.open(x.shape[1])
        parts.append(model(x, t, cached_text, memory=cache))
        cache.advance()
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("sizes", [[1, 3, 3], [3, 3, 1], [1] * 7, [7]])
def test_chunk_by_chunk_equals_one_block_causal_pass(transformer, clip, times, text, sizes):
    streamed = run_cached(transformer, clip, times, text, sizes, new_cache())
    whole = transformer(clip, times, text, frame_mask=block_causal_mask(sizes))
    assert_close(streamed, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("window", "sink"), [(5, 0), (5, 1), (6, 3)])
def test_a_rolling_window_equals_its_mask(transformer, clip, times, text, window, sink):
    cache = new_cache(window, sink)
    cache.sink_rotation = "absolute"
    sizes = [1, 3, 3]
    if window == 6:
        sizes = [3, 3, 1]
    streamed = run_cached(transformer, clip, times, text, sizes, cache)
    # One layer sees through the other's window, so the mask must hold in every layer: it does.
    mask = block_causal_mask(sizes, window=window, sink=sink)
    assert_close(streamed, transformer(clip, times, text, frame_mask=mask), atol=1e-5, rtol=1e-4)


def test_a_window_as_long_as_the_clip_is_no_window(transformer, clip, times, text):
    full = run_cached(transformer, clip, times, text, [1, 3, 3], new_cache(7))
    longer = run_cached(transformer, clip, times, text, [1, 3, 3], new_cache(30, 2))
    assert_close(full, longer, atol=1e-6, rtol=1e-5)


def test_one_chunk_of_everything_is_bidirectional(transformer, clip, times, text):
    whole = transformer(clip, times, text)
    masked = transformer(clip, times, text, frame_mask=block_causal_mask([7]))
    assert_close(whole, masked, atol=1e-5, rtol=1e-4)


def test_the_future_never_changes_the_past(transformer, clip, times, text):
    mask = block_causal_mask([1, 3, 3])
    changed = clip.clone()
    changed[:, 4:] += 10
    before = transformer(clip, times, text, frame_mask=mask)
    after = transformer(changed, times, text, frame_mask=mask)
    assert_close(before[:, :4], after[:, :4], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_teacher_forcing_equals_streaming_with_a_perfect_past(transformer, clip, times, text):
    sizes = [1, 3, 3]
    noisy = clip + 0.5
    cache, cached_text, parts = new_cache(), transformer.encode_text(text), []
    for clean, x, t in zip(
        clip.split(sizes, 1), noisy.split(sizes, 1), times.split(sizes, 1), strict=True
    ):
        cache.open(x.shape[1])
        parts.append(transformer(x, t, cached_text, memory=cache))
        transformer(clean, torch.zeros_like(t), cached_text, memory=cache)
        cache.advance()
    made, frame = torch.cat(parts, 1), torch.arange(7)
    past = sum(sizes[:-1])
    for given in range(len(sizes)):
        first = sum(sizes[:given])
        joined = transformer(
            torch.cat([clip[:, :past], noisy[:, first:]], 1),
            torch.cat([torch.zeros_like(times[:, :past]), times[:, first:]], 1),
            text,
            frame_mask=teacher_forcing_mask(sizes, given=given),
            positions=torch.cat([frame[:past], frame[first:]]),
        )
        assert_close(joined[:, past:], made[:, first:], atol=1e-5, rtol=1e-4)


def test_the_gradient_pass_equals_the_cached_pass(transformer, clip, times, text):
    cache, cached_text = new_cache(5, 1), transformer.encode_text(text)
    for x, t in zip(clip.split([1, 3, 3], 1), times.split([1, 3, 3], 1), strict=True):
        cache.open(x.shape[1])
        live = x.clone().requires_grad_()
        tracked = transformer(live, t, cached_text, memory=GradientMemory(cache))
        assert_close(
            tracked.detach(), transformer(x, t, cached_text, memory=cache), atol=1e-5, rtol=1e-4
        )
        cache.advance()
    tracked.sum().backward()
    assert live.grad.abs().sum() > 0


def test_weights_are_interchangeable_with_diffusers_wan(clip, text):
    shape = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 8,
        "out_channels": 8,
        "text_dim": 16,
        "freq_dim": 32,
        "ffn_dim": 64,
        "num_layers": 2,
    }
    torch.manual_seed(5)
    theirs = WanTransformer3DModel(patch_size=(1, 2, 2), **shape).eval()
    ours = CausalWanTransformer(text_length=12, **shape).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    level = torch.tensor([0.37])
    with torch.no_grad():
        expected = theirs(clip.transpose(1, 2), level * 1000, text).sample.transpose(1, 2)
        mine = ours(clip, level[:, None].expand(1, 7), text)
    assert_close(mine, expected, atol=1e-4, rtol=1e-4)


def test_samples_of_a_batch_do_not_touch(transformer, clip, times, text):
    other = torch.randn_like(clip)
    both = transformer(torch.cat([clip, other]), times.expand(2, -1), text.expand(2, -1, -1))
    assert_close(both[:1], transformer(clip, times, text), atol=1e-5, rtol=1e-4)


def test_the_attention_backend_is_one_setting(transformer, clip, times, text):
    native = transformer(clip, times, text)
    with attention_backend(AttentionBackendName.NATIVE):  # leaves the default of all models alone
        transformer.set_attention_backend("_native_math")
    try:
        assert_close(transformer(clip, times, text), native, atol=1e-5, rtol=1e-4)
    finally:
        transformer.reset_attention_backend()


def checkpointed_and_not(transformer, run):
    """Loss and gradients of all weights, without and with activation checkpointing."""
    model = copy.deepcopy(transformer).requires_grad_()
    results = []
    for checkpointing in (False, True):
        if checkpointing:
            model.enable_gradient_checkpointing()
        model.zero_grad()
        loss = run(model)
        loss.backward()
        results.append([loss.detach(), *(weight.grad.clone() for weight in model.parameters())])
    return zip(*results, strict=True)


@pytest.mark.parametrize("mask", [None, block_causal_mask([1, 3, 3])], ids=["whole", "causal"])
def test_checkpointing_changes_no_gradient(transformer, clip, times, text, mask):
    def run(model):
        return model(clip, times, text, frame_mask=mask).square().mean()

    for plain, checkpointed in checkpointed_and_not(transformer, run):
        assert_close(checkpointed, plain)


def test_checkpointing_remembers_the_past_that_a_chunk_saw(transformer, clip, times, text):
    """By the time a pass is run again, later chunks have overwritten the cache."""

    def run(model):
        cache, cached_text, loss = new_cache(5, 1), model.encode_text(text), 0
        for x, t in zip(clip.split([1, 3, 3], 1), times.split([1, 3, 3], 1), strict=True):
            cache.open(x.shape[1])
            made = model(x, t, cached_text, memory=GradientMemory(cache))
            loss = loss + made.square().mean()
            with torch.no_grad():
                model(made.detach(), torch.zeros_like(t), cached_text, memory=cache)
            cache.advance()
        return loss

    for plain, checkpointed in checkpointed_and_not(transformer, run):
        assert_close(checkpointed, plain)


def test_saving_and_loading_keeps_every_weight(transformer, tmp_path):
    transformer.save_pretrained(tmp_path)
    again = CausalWanTransformer.from_pretrained(tmp_path)
    for name, tensor in transformer.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"patch_size": (2, 2, 2)}, r"\(1, p, p\)"),
        ({"qk_norm": "none"}, "rms_norm_across_heads"),
        ({"position_features": 5}, "2 \\+ 4·k"),
    ],
)
def test_shapes_that_cannot_be_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        CausalWanTransformer(num_layers=1, num_attention_heads=1, ffn_dim=8, **option)


def test_half_precision_keeps_time_in_float32(transformer, clip, times, text, tmp_path):
    transformer.save_pretrained(tmp_path)
    half = CausalWanTransformer.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    kept = {name for name, p in half.named_parameters() if p.dtype == torch.float32}
    assert kept and all("time_embedder" in name or "scale_shift" in name for name in kept)
    with torch.no_grad():
        error = half(clip, times, text).float() - transformer(clip, times, text)
    assert error.norm() < 0.05 * transformer(clip, times, text).norm()
