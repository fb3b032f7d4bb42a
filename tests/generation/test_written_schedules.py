"""Schedules as other programs and systems write them are read as meant, or refused: never one
prompt that is full of times."""

import codecs
import random

import pytest

from causvid.generation.prompts import PromptSchedule, ScheduleError

STORY = "0s: a red car\r\n3s: a blue böat\r\n"


def starts(schedule: PromptSchedule) -> list[tuple[float, str]]:
    return [(cue.start, cue.prompt) for cue in schedule]


@pytest.mark.parametrize(
    "data",
    [
        STORY.encode("utf-16"),  # what PowerShell's > writes
        codecs.BOM_UTF16_BE + STORY.encode("utf-16-be"),
        STORY.encode("utf-32"),
        STORY.encode("utf-8-sig"),
        STORY.encode(),
    ],
)
def test_a_mark_tells_the_encoding_of_a_file(tmp_path, data):
    file = tmp_path / "story.txt"
    file.write_bytes(data)
    assert starts(PromptSchedule.parse(file)) == [(0, "a red car"), (3, "a blue böat")]


@pytest.mark.parametrize("encoding", ["utf-16-le", "cp1252", "utf-32-be"])
def test_a_file_in_another_encoding_is_told_which_one_to_use(tmp_path, encoding):
    file = tmp_path / "story.txt"
    file.write_bytes(STORY.encode(encoding))
    with pytest.raises(ScheduleError, match=r"from story.txt: it is no text in UTF-8; save it as"):
        PromptSchedule.parse(file)


def test_a_file_of_noise_is_a_sentence(tmp_path):
    file = tmp_path / "noise.txt"
    file.write_bytes(random.Random(0).randbytes(1000))
    with pytest.raises(ScheduleError, match="UTF-8"):
        PromptSchedule.parse(file)


@pytest.mark.parametrize("text", ["\ufeff4s: a", "\ufeff0s: a red car", '\ufeff[[0, "a red car"]]'])
def test_a_mark_before_a_text_is_no_part_of_it(text):
    if "4s" in text:
        with pytest.raises(ScheduleError, match="the first cue starts at 4 s"):
            PromptSchedule.parse(text)
    else:
        assert starts(PromptSchedule.parse(text)) == [(0, "a red car")]


@pytest.mark.parametrize(
    "text",
    [
        "[0s: a red car] [3s: a blue boat]",
        "[0-3s: a red car] [3-6s: a blue boat]",
        "0-3s: a red car\n3-6s: a blue boat",
        "0s - 3s: a red car",
        "1\n00:00:00,000 --> 00:00:03,000\na red car\n",
        "WEBVTT\n\n00:00.000 --> 00:03.000\na red car\n",
        "Shot 1 (0-3s): a red car\nShot 2 (3-6s): a blue boat",
        "Scene 1 (0:00 - 0:03): a red car",
        '"0": "a red car", "16": "a blue boat"',
        '"0": "a red car",\n"16": "a blue boat"',
        "0,0s: a red car\n4,5s: a blue boat",
        "0,0: a red car",
        "(0s) a red car (3s) a blue boat",
        "0s: a red car 3s: a blue boat",
        "a red car at 0s: and then 3s: a blue boat",
        "0 to 3s: a red car",
        "0.0–3.0s: a red car",
    ],
)
def test_another_notation_is_refused_with_its_line_and_the_form(text):
    with pytest.raises(ScheduleError, match=r"^line \d+: .*expected (one cue a line, )?'4.5s: a"):
        PromptSchedule.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "a clock that shows 12:30, in 3 seconds",
        "a 3s exposure: lights of cars",
        "two cars, 4,5 metres apart",
        "one shot (from above): a red car",
        "10 red cars",
        "(a red car) [detailed], 35mm",
        "3-wheeled cars: red ones",
        "a red car - a blue boat",
        "scene 1: a red car",
        "a man says: at 10:15 it rains",
    ],
)
def test_words_with_numbers_are_one_prompt(text):
    assert starts(PromptSchedule.parse(text)) == [(0, text)]
