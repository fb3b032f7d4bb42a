"""The segmenter learns from rendered pictures, and what it reads is measured by laws."""

import numpy as np
import pytest
import torch

from causvid.training.config import OptimiserConfig, SegmenterConfig
from causvid.training.segmenter import (
    SegmentedPictures,
    SegmenterStage,
    accuracy,
    mask_loss,
    new_segmenter,
    segmented_pictures,
    worsened,
)
from causvid.training.trainer import LoopConfig, train
from causvid.world.wide import Scene, Thing
from causvid.world.wide.segmenter import Segmenter, answerable

SMALL = SegmenterConfig(OptimiserConfig(2e-3, warmup_steps=2), steps=2, pool=2, batch=4)


class Oracle(torch.nn.Module):
    """Reads what is written into the pictures: masks in their first channel, counts in theirs."""

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        counts = ((pictures[:, 1, 0, 0] + 1) * 127.5).round().long()
        return pictures[:, 0], torch.nn.functional.one_hot(counts, 3).float()


def written(counts: list[int], masks: torch.Tensor) -> SegmentedPictures:
    pictures = torch.zeros(len(counts), 3, *masks.shape[1:], dtype=torch.uint8)
    pictures[:, 0] = (masks * 255).to(torch.uint8)
    pictures[:, 1] = torch.tensor(counts)[:, None, None].to(torch.uint8)
    return SegmentedPictures(pictures, masks, torch.tensor(counts))


@pytest.fixture
def masks() -> torch.Tensor:
    masks = torch.zeros(3, 16, 16)
    masks[1, 4:12, 4:12] = 1
    masks[2, :4, :8] = masks[2, 10:, 8:] = 1
    return masks


def test_who_reads_all_right_is_right(masks):
    read = accuracy(Oracle(), written([0, 1, 2], masks))
    assert read == {"pictures": 3, "count": 1, "iou": 1, "found": 1, "empty": 1}


def test_an_erased_thing_and_half_a_mask_cost_what_they_should(masks):
    pictures = written([0, 1, 2], masks)
    halved, counts = masks.clone(), torch.tensor([0, 1, 1])
    halved[1, 4:8] = 0
    seen = SegmentedPictures(written(counts.tolist(), halved).pictures, masks, pictures.counts)
    read = accuracy(Oracle(), seen)
    assert read["count"] == pytest.approx(2 / 3)
    assert read["iou"] == pytest.approx(0.75) and read["found"] == 0.5


def test_the_loss_of_the_right_mask_is_the_least(masks):
    right = mask_loss(20 * (2 * masks - 1), masks)
    assert right < 0.02
    assert mask_loss(torch.zeros_like(masks), masks) > right + 1
    assert mask_loss(20 * (1 - 2 * masks), masks) > 10


def test_pictures_come_with_masks_where_things_are_and_nowhere_else():
    model = new_segmenter(0)
    drawn = segmented_pictures(model, np.random.default_rng(1), 4)
    again = segmented_pictures(model, np.random.default_rng(1), 4)
    assert torch.equal(drawn.pictures, again.pictures)
    assert drawn.pictures.shape == (12, 3, 96, 160) and drawn.masks.shape == (12, 96, 160)
    for mask, count in zip(drawn.masks, drawn.counts, strict=True):
        assert bool((mask > 0.5).any()) == (count != 0) or count == -1
    worse = worsened(drawn.pictures / 127.5 - 1, SMALL, torch.Generator().manual_seed(0))
    assert worse.abs().max() <= 1


@pytest.mark.parametrize("size", [(192, 320), (320, 192), (240, 240), (128, 224)])
def test_pictures_of_any_size_and_format_are_segmented(size):
    frames = np.zeros((2, *size, 3), np.uint8)
    things = new_segmenter(0).eval().look(frames)
    height, width = things.masks.shape[1:]
    assert things.counts.shape == (2,)
    assert height / width == pytest.approx(size[0] / size[1], rel=0.1)
    assert height * width == pytest.approx(96 * 160, rel=0.15)


def test_it_is_asked_only_what_one_frame_answers():
    assert answerable(Scene("meadow", (Thing("car", "red"),)))
    assert not answerable(Scene("leaves", (Thing("car", "red"),)))
    assert not answerable(Scene("forest", (Thing("tree"),)))


def test_a_missing_segmenter_says_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match="train segmenter"):
        Segmenter.load(tmp_path)


@pytest.mark.slow
def test_training_is_resumed_where_it_stopped_and_its_weights_are_small(tmp_path):
    from accelerate import Accelerator

    def trained(folder, *stops):
        for stop in stops:
            stage = SegmenterStage(new_segmenter(0), SMALL)
            train(stage, LoopConfig(folder, log_steps=1), Accelerator(cpu=True), stop=stop)
        return stage.segmenter.state_dict()

    whole, parts = trained(tmp_path / "whole", None), trained(tmp_path / "parts", 1, None)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert 2 * sum(weight.numel() for weight in whole.values()) < 4_000_000


@pytest.mark.slow
def test_a_few_steps_find_a_thing():
    """It learns: on pictures that it has seen, masks overlap after some dozens of updates."""
    model = new_segmenter(0)
    drawn = segmented_pictures(model, np.random.default_rng(2), 3)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    pictures = drawn.pictures.float() / 127.5 - 1
    for _ in range(40):
        mask, count = model(pictures)
        loss = mask_loss(mask, drawn.masks) + torch.nn.functional.cross_entropy(
            count, drawn.counts, ignore_index=-1
        )
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert accuracy(model.eval(), drawn)["iou"] > 0.5
