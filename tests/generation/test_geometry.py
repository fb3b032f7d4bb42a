import pytest

from causvid.generation.geometry import ChunkPattern, LatentGrid, Timeline


@pytest.mark.parametrize("pattern", [ChunkPattern(3, 3), ChunkPattern(1, 3), ChunkPattern(1, 1)])
def test_every_frame_lies_in_the_chunk_that_claims_it(pattern):
    for frame in range(40):
        chunk = pattern.chunk_of(frame)
        assert pattern.start(chunk) <= frame < pattern.start(chunk) + pattern.frames(chunk)


@pytest.mark.parametrize("pattern", [ChunkPattern(3, 3), ChunkPattern(1, 3), ChunkPattern(2, 5)])
def test_covering_is_the_least_number_of_chunks(pattern):
    for frames in range(1, 40):
        count = pattern.covering(frames)
        assert pattern.start(count) >= frames > pattern.start(count - 1)


def test_sizes_add_up_and_refuse_what_does_not_fill_chunks():
    assert ChunkPattern(1, 3).sizes(7) == (1, 3, 3)
    with pytest.raises(ValueError, match="are 7 and 10"):
        ChunkPattern(1, 3).sizes(9)


def test_wan_at_480p_has_the_published_sizes():
    grid = LatentGrid(480, 832)
    assert (grid.latent_height, grid.latent_width, grid.tokens_per_frame) == (60, 104, 1560)
    assert grid.pixel_frames(0, 21) == 81
    assert grid.pixel_frames(0, 3) == 9
    assert grid.pixel_frames(3, 3) == 12
    assert grid.latent_frames(81) == 21
    assert grid.latent_frames(82) == 22


def test_a_size_off_the_grid_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match="848x480"):
        LatentGrid(480, 854)


def test_chunks_follow_each_other_on_the_clock():
    timeline = Timeline(LatentGrid(32, 48, patch=1), ChunkPattern(1, 3), fps=16)
    for chunk in range(20):
        end = timeline.first_pixel_frame(chunk) + timeline.pixel_frames(chunk)
        assert end == timeline.first_pixel_frame(chunk + 1)
    assert timeline.duration(3) == pytest.approx(25 / 16)


@pytest.mark.parametrize("seconds", [0.01, 0.5, 1, 2.345, 5, 60])
def test_a_length_is_covered_by_no_more_chunks_than_needed(seconds):
    timeline = Timeline(LatentGrid(32, 48, patch=1), ChunkPattern(1, 3), fps=16)
    count = timeline.chunk_count(seconds)
    assert timeline.duration(count) >= seconds - 1e-6
    assert count == 1 or timeline.duration(count - 1) < seconds


def test_no_length_is_refused():
    timeline = Timeline(LatentGrid(32, 48, patch=1), ChunkPattern(1, 3), fps=16)
    with pytest.raises(ValueError, match="more than 0 seconds, got 0"):
        timeline.chunk_count(0)
