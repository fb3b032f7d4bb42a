import pytest
import torch
from torch.testing import assert_close

from causvid.model.attention import rotary_table, rotate
from causvid.model.cache import GradientMemory, KVCache

HEADS, HEAD_DIM, TOKENS = 2, 12, 2  # 2 tokens a frame: a 1 x 2 grid


def new_cache(window, sink=0, **options):
    return KVCache(
        num_layers=2,
        batch=1,
        heads=HEADS,
        head_dim=HEAD_DIM,
        grid=(1, TOKENS),
        window=window,
        sink=sink,
        **options,
    )


def plain_keys(frame):
    """Unrotated keys `[1, tokens, heads, d]` that tell which frame they belong to."""
    return torch.randn((1, TOKENS, HEADS, HEAD_DIM), generator=torch.Generator().manual_seed(frame))


def keys_of(frames):
    """Keys of `frames`, rotated to their own latent index."""
    frames = list(frames)
    keys = torch.cat([plain_keys(f) for f in frames], dim=1)
    return rotate(keys, rotary_table(torch.tensor(frames), 1, 2, HEAD_DIM))


def values_of(frames):
    frames = torch.tensor(list(frames), dtype=torch.float32)
    return frames.repeat_interleave(TOKENS)[None, :, None, None].expand(1, -1, HEADS, HEAD_DIM)


def push(cache, frames):
    """One chunk: a noisy pass that is overwritten, then the clean one."""
    start = cache.cursor
    span = range(start, start + frames)
    cache.open(frames)
    for layer in range(2):
        cache.write(layer, torch.full_like(keys_of(span), 99.0), values_of(span) * 0 - 1)
        visible = cache.write(layer, keys_of(span), values_of(span))
    cache.advance()
    return visible


def seen(visible):
    """The frames whose values are visible, sorted."""
    return sorted(set(visible[1][0, :, 0, 0].int().tolist()))


@pytest.mark.parametrize(
    ("window", "sink", "sizes"),
    [(6, 0, [3] * 8), (7, 0, [3] * 8), (6, 1, [3] * 8), (9, 3, [3] * 8), (8, 2, [1] + [3] * 8)],
)
def test_exactly_the_sink_and_the_last_frames_are_visible(window, sink, sizes):
    cache = new_cache(window, sink)
    end = 0
    for size in sizes:
        end += size
        expected = sorted({*range(min(sink, end)), *range(max(0, end - (window - sink)), end)})
        assert seen(push(cache, size)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("decay", [None, 0.9])
def test_storage_is_never_reallocated_and_nothing_grows(decay):
    cache = new_cache(8, 2, sink_decay=decay)
    push(cache, 1)
    push(cache, 3)
    addresses, size = [t.data_ptr() for t in (*cache.keys, *cache.values)], cache.nbytes
    for _ in range(2000):
        push(cache, 3)
    assert [t.data_ptr() for t in (*cache.keys, *cache.values)] == addresses
    assert cache.nbytes == size


def test_a_renewed_sink_stands_just_before_the_window():
    cache = new_cache(8, 2)
    for size in [1] + [3] * 500:
        keys, values = push(cache, size)
    end = cache.cursor
    oldest = end - 6
    position = {0: oldest - 2, 1: oldest - 1}  # the sink's two frames
    for frame, place in position.items():
        expected = rotate(plain_keys(frame), rotary_table(torch.tensor([place]), 1, 2, HEAD_DIM))
        mine = values[0, :, 0, 0] == frame
        assert_close(keys[:, mine], expected, atol=1e-5, rtol=1e-5)


def test_an_absolute_sink_keeps_its_first_keys_bit_for_bit():
    cache = new_cache(6, 1, sink_rotation="absolute")
    for _ in range(50):
        keys, values = push(cache, 3)
    mine = values[0, :, 0, 0] == 0
    assert torch.equal(keys[:, mine], keys_of([0]))


def test_renewal_changes_nothing_before_the_window_is_full():
    renewed, absolute = new_cache(9, 3), new_cache(9, 3, sink_rotation="absolute")
    for _ in range(3):
        for ours, theirs in zip(push(renewed, 3), push(absolute, 3), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("then", ["push", "flush", "recache", "snapshot"])
@pytest.mark.parametrize("decay", [None, 0.5])
def test_an_abandoned_chunk_leaves_no_trace(decay, then):
    plain, disturbed = (new_cache(8, 2, sink_decay=decay) for _ in range(2))
    for size in [1] + [3] * 6:
        disturbed.open(size)
        noise = torch.randn(1, size * TOKENS, HEADS, HEAD_DIM)
        for layer in range(2):
            disturbed.write(layer, noise, noise)
        for cache in (plain, disturbed):
            if then == "flush":
                cache.flush()
            elif then == "recache" and cache.cursor:
                first, count = cache.reopen(keep_sink=True)
                again = range(first, first + count)
                for layer in range(2):
                    cache.write(layer, keys_of(again), values_of(again) + 100)
                cache.advance()
            elif then == "snapshot":
                state = cache.tensors()
                cache.restore(state)
        pushed = [push(cache, size) for cache in (plain, disturbed)]
        assert torch.equal(pushed[0][0], pushed[1][0]) and torch.equal(pushed[0][1], pushed[1][1])
    for name, tensor in plain.tensors().items():
        assert torch.equal(disturbed.tensors()[name], tensor), name


@pytest.mark.parametrize(("window", "sink", "sizes"), [(9, 3, [3] * 8), (8, 2, [1] + [3] * 8)])
def test_frames_that_leave_the_window_are_blended_into_the_sink(window, sink, sizes):
    """Against the plain sum, from keys that were never rotated."""
    decay, cache, end = 0.75, new_cache(window, sink, sink_decay=0.75), 0
    keys = [plain_keys(frame) for frame in range(sink)]
    values = [float(frame) for frame in range(sink)]
    gone = sink
    for size in sizes:
        end += size
        visible = push(cache, size)
        for frame in range(gone, end - cache.ring):
            place = (frame - sink) % sink
            keys[place] = decay * keys[place] + (1 - decay) * plain_keys(frame)
            values[place] = decay * values[place] + (1 - decay) * frame
            gone = frame + 1
        oldest = max(sink, end - cache.ring)
        if end < sink:
            continue
        places = torch.arange(oldest - sink, oldest)
        expected = rotate(torch.cat(keys, dim=1), rotary_table(places, 1, 2, HEAD_DIM))
        assert_close(visible[0][:, : sink * TOKENS], expected, atol=1e-5, rtol=1e-5)
        assert_close(visible[1][0, : sink * TOKENS : TOKENS, 0, 0], torch.tensor(values))


@pytest.mark.parametrize("decay", [None, 0.9])
def test_frames_ahead_are_seen_and_leave_no_trace(decay):
    plain = new_cache(8, 2, sink_decay=decay)
    cache = new_cache(11, 2, ahead=3, sink_decay=decay)
    for size in [1] + [3] * 6:
        start = cache.cursor
        cache.open(size, ahead=3)
        wide = range(start, start + size + 3)
        assert cache.positions.tolist() == list(wide)
        for layer in range(2):
            visible = cache.write(layer, keys_of(wide), values_of(wide))
        alone = push(plain, size)
        if decay is None:
            assert seen(visible) == sorted({*seen(alone), *wide})
        assert_close(push(cache, size), alone)
        for name, tensor in plain.tensors().items():
            assert torch.equal(cache.tensors()[name], tensor), name


def test_more_frames_ahead_than_there_are_slots_are_refused():
    with pytest.raises(ValueError, match="window of at least 8"):
        new_cache(7, 1, ahead=3).open(3, ahead=4)
    with pytest.raises(ValueError, match=r"larger than the sink \(3\) and the frames ahead \(3\)"):
        new_cache(6, 3, ahead=3)


def test_the_past_can_be_reopened_in_part():
    cache = new_cache(8, 2)
    for size in [1] + [3] * 4:
        push(cache, size)
    assert cache.reopen(keep_sink=True, frames=3) == (10, 3)
    span = range(10, 13)
    for layer in range(2):
        visible = cache.write(layer, keys_of(span), values_of(span) + 100)
    cache.advance()
    assert seen(visible) == [0, 1, 110, 111, 112]
    assert seen(push(cache, 3)) == [0, 1, 13, 14, 15, 110, 111, 112]


def test_flush_leaves_the_sink_and_the_last_frame():
    cache = new_cache(8, 2)
    for size in [1, 3, 3, 3]:
        push(cache, size)
    cache.flush()
    assert seen(push(cache, 3)) == [0, 1, 9, 10, 11, 12]
    assert seen(push(cache, 3)) == [0, 1, 10, 11, 12, 13, 14, 15]


def test_flush_twice_is_flush_once_and_early_it_does_nothing():
    cache = new_cache(8, 2)
    push(cache, 1)
    cache.flush()
    assert seen(push(cache, 3)) == [0, 1, 2, 3]
    cache.flush()
    once = cache.tensors()
    cache.flush()
    for name, tensor in cache.tensors().items():
        assert torch.equal(tensor, once[name]), name


@pytest.mark.parametrize(
    ("chunks", "keep_sink", "frames"),
    [(2, True, range(0, 4)), (5, True, range(7, 13)), (5, False, range(5, 13))],
)
def test_reopening_covers_the_remembered_past(chunks, keep_sink, frames):
    cache = new_cache(8, 2)
    for size in [1, 3, 3, 3, 3][:chunks]:
        push(cache, size)
    first, count = cache.reopen(keep_sink=keep_sink)
    assert range(first, first + count) == frames
    assert cache.positions.tolist() == list(frames)
    for layer in range(2):
        visible = cache.write(layer, keys_of(frames), values_of(frames) + 100)
    cache.advance()
    kept = [0, 1] if keep_sink and first else []
    assert seen(visible) == kept + [f + 100 for f in frames]
    end = cache.cursor
    recent = range(max(first, end - 3), end)  # a chunk of three evicts the three oldest
    after = seen(push(cache, 3))
    assert [f + 100 for f in recent] == [f for f in after if f - 100 in recent]
    assert after[-1] >= end


def test_a_chunk_larger_than_the_window_is_refused():
    cache = new_cache(4, 2)
    push(cache, 2)
    with pytest.raises(ValueError, match="window of at least 5"):
        cache.open(3)


def test_a_window_must_hold_more_than_its_sink():
    with pytest.raises(ValueError, match="larger than the sink"):
        new_cache(3, 3)


@pytest.mark.parametrize("decay", [None, 0.9])
def test_a_restored_cache_goes_on_bit_for_bit(decay):
    cache, copy = (new_cache(8, 2, sink_decay=decay) for _ in range(2))
    for size in [1, 3, 3, 3, 3]:
        push(cache, size)
    copy.restore(cache.tensors())
    for _ in range(4):
        for ours, theirs in zip(push(cache, 3), push(copy, 3), strict=True):
            assert torch.equal(ours, theirs)


def test_a_snapshot_of_another_size_is_refused():
    cache = new_cache(8, 2)
    push(cache, 3)
    other = KVCache(num_layers=3, batch=1, heads=2, head_dim=12, grid=(1, 2), window=8, sink=2)
    with pytest.raises(ValueError, match="same model, size and window"):
        other.restore(cache.tensors())


def test_the_gradient_pass_sees_what_the_cached_pass_sees():
    cache = new_cache(8, 2)
    for size in [1, 3, 3, 3, 3]:
        push(cache, size)
    cache.open(3)
    span = range(cache.cursor, cache.cursor + 3)
    live_keys, live_values = keys_of(span).requires_grad_(), values_of(span)
    keys, values = GradientMemory(cache).write(1, live_keys, live_values)
    keys.sum().backward()
    assert (live_keys.grad == 1).all()
    cached_keys, cached_values = cache.write(1, live_keys.detach(), live_values)
    order, cached_order = (v[0, :, 0, 0].argsort(stable=True) for v in (values, cached_values))
    assert_close(keys[:, order].detach(), cached_keys[:, cached_order])
