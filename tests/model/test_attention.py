import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch.testing import assert_close

from causvid.model.attention import (
    block_causal_mask,
    rotary_pairs,
    rotary_table,
    rotate,
    sights,
    teacher_forcing_mask,
)


def test_rotations_are_those_of_diffusers_wan():
    theirs = WanRotaryPosEmbed(24, (1, 1, 1), 64)
    cos, sin = theirs(torch.empty(1, 1, 5, 3, 4))
    ours = rotary_table(torch.arange(5), 3, 4, 24)
    assert_close(ours[:, :, :, 0], cos[0, :, :, 0::2].float(), atol=1e-5, rtol=0)
    assert_close(ours[:, :, :, 1], sin[0, :, :, 1::2].float(), atol=1e-5, rtol=0)


def test_scores_depend_on_the_distance_alone_even_after_a_day():
    query, key = torch.randn(2, 6, 1, 24)

    def score(start):
        table = rotary_table(torch.tensor([start, start + 7]), 2, 3, 24)
        return (rotate(query, table[:6]) * rotate(key, table[6:])).sum(-1)

    day = 24 * 3600 * 4  # latent frames in a day at 16 pictures a second
    assert_close(score(day), score(0), atol=2e-5, rtol=1e-5)


def test_the_time_pairs_come_first_and_take_the_rest():
    assert rotary_pairs(128) == (22, 21, 21)
    time_only = rotary_table(torch.tensor([9]), 1, 1, 24)[0, 0]
    assert (time_only[rotary_pairs(24)[0] :] == torch.tensor([1.0, 0.0])).all()


def test_a_frame_sees_its_chunk_and_all_earlier_ones():
    mask = block_causal_mask([1, 3, 2])
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1],
    ]


def test_a_window_hides_all_but_the_sink_and_the_recent_past():
    mask = block_causal_mask([1, 3, 3, 3], window=5, sink=1)
    assert mask[-1].nonzero().flatten().tolist() == [0, 6, 7, 8, 9]
    assert mask[1].nonzero().flatten().tolist() == [0, 1, 2, 3]


def test_a_window_as_long_as_the_clip_is_no_window():
    sizes = [1, 3, 3]
    assert torch.equal(block_causal_mask(sizes, window=7, sink=2), block_causal_mask(sizes))


def test_noisy_chunks_see_only_clean_chunks_before_them_and_themselves():
    mask = teacher_forcing_mask([2, 2])  # two clean frames, four noisy ones
    noisy = mask[2:]
    assert noisy[:2].nonzero()[:, 1].unique().tolist() == [2, 3]
    assert noisy[2:].nonzero()[:, 1].unique().tolist() == [0, 1, 4, 5]
    assert not mask[:2, 2:].any()


@pytest.mark.parametrize(
    "mask",
    [
        block_causal_mask([1, 3, 2]),
        block_causal_mask([2, 2, 2], window=3, sink=1),
        teacher_forcing_mask([1, 1, 2], given=0),
        torch.ones(6, 6, dtype=torch.bool),
    ],
    ids=["causal", "window and sink", "teacher forcing", "all"],
)
def test_attending_runs_of_frames_by_themselves_equals_masking(mask):
    draw = torch.Generator().manual_seed(0)
    query, keys, values = torch.randn(3, 1, 24, 2, 8, generator=draw)  # [b, n, heads, d]
    attend = torch.nn.functional.scaled_dot_product_attention
    tokens = mask.repeat_interleave(4, 0).repeat_interleave(4, 1)
    whole = attend(*(x.transpose(1, 2) for x in (query, keys, values)), attn_mask=tokens)
    parts = [
        attend(*(x.transpose(1, 2) for x in (query[:, run.tokens], run.of(keys), run.of(values))))
        for run in sights(mask, 4)
    ]
    assert_close(torch.cat(parts, dim=2), whole)


def test_every_chunk_is_attended_once():
    runs = sights(block_causal_mask([1, 3, 3]), 10)
    assert [run.tokens for run in runs] == [slice(0, 10), slice(10, 40), slice(40, 70)]
    assert [run.visible for run in runs] == [(slice(0, end),) for end in (10, 40, 70)]


def test_a_frame_that_sees_nothing_is_refused():
    mask = torch.tensor([[True, False], [False, False]])
    with pytest.raises(ValueError, match=r"frames \[1\] see no frame"):
        sights(mask, 4)
