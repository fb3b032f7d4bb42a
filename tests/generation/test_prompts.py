import json
import math

import pytest

from causvid.generation.geometry import ChunkPattern, LatentGrid, Timeline
from causvid.generation.prompts import Cue, Handover, PromptSchedule, ScheduleError

STORY = """
# a drive
0s: a red car drives through a forest
4.5s [recache]: the car enters a tunnel: dark, wet

9s [blend:3]: a sunlit beach
"""
# Chunks of 12 pixel frames; the first also holds the independent first frame (9 of them).
TIMELINE = Timeline(LatentGrid(480, 832), ChunkPattern(3, 3), fps=16)


def schedule_of(*cues):
    return PromptSchedule(
        tuple(Cue(start, prompt, Handover.parse(handover)) for start, prompt, handover in cues)
    )


def at_chunks(*cues):
    """A schedule whose cues start exactly at chunks, snapped."""
    return schedule_of(
        *((TIMELINE.start_time(chunk), prompt, handover) for chunk, prompt, handover in cues)
    ).snapped(TIMELINE)


class TestForms:
    def test_text_form_is_one_cue_a_line(self):
        assert PromptSchedule.parse(STORY) == schedule_of(
            (0, "a red car drives through a forest", "swap"),
            (4.5, "the car enters a tunnel: dark, wet", "recache"),
            (9, "a sunlit beach", "blend:3"),
        )

    @pytest.mark.parametrize(
        "line",
        [
            "90s [blend:3]: rain",
            "90 s blend:3: rain",
            "90.0sec[blend 3]:rain",
            "1:30 [ BLEND : 3 ]: rain",
            "90 [blend=3]: rain",
            "0:01:30.0 blend:3: rain",
            "  90 seconds [blend:3] :   rain ",
        ],
    )
    def test_reasonable_spellings_mean_the_same(self, line):
        schedule = PromptSchedule.parse(f"0s: sun\n{line}")
        assert schedule.cues[1] == Cue(90.0, "rain", Handover("blend", 3))

    def test_lines_may_come_in_any_order(self):
        schedule = PromptSchedule.parse("5s: b\n0s: a\n2s: c")
        assert [cue.prompt for cue in schedule] == ["a", "c", "b"]

    @pytest.mark.parametrize(
        "text",
        [
            "a red car",
            "80s synthwave city, neon",
            "3d render of a cat",
            "1920s Paris",
            "7 dwarfs: a tale",
            "[cinematic] a car",
            "a clock that shows 4:30",
        ],
    )
    def test_text_without_time_stamps_is_one_prompt(self, text):
        assert PromptSchedule.parse(text) == PromptSchedule.constant(text)

    def test_several_lines_without_time_stamps_are_one_prompt(self):
        assert PromptSchedule.parse("a red car\n# aside\n  in the rain").cues == (
            Cue(0, "a red car in the rain"),
        )

    def test_constant_takes_the_words_literally(self):
        assert PromptSchedule.constant("2s: a band").cues == (Cue(0.0, "2s: a band"),)

    @pytest.mark.parametrize("start", [1e-5, 0.1, 1 / 3, 2.0**0.5, 4.5, 7, 123456.789, 1e7])
    @pytest.mark.parametrize("handover", ["swap", "recache", "flush", "blend:1", "blend:999"])
    def test_round_trips_are_exact(self, start, handover):
        schedule = schedule_of(
            (0, "«a» b:\\c\u2028d\n[e] # f", "flush"), (start, "9s: ü", handover)
        )
        assert PromptSchedule.parse(schedule.to_text()) == schedule
        assert PromptSchedule.parse(schedule.to_json()) == schedule
        assert PromptSchedule.parse(schedule.to_dict()) == schedule

    def test_json_form_is_the_documented_one(self):
        assert PromptSchedule.parse(STORY).to_dict()["cues"][1] == {
            "start": 4.5,
            "prompt": "the car enters a tunnel: dark, wet",
            "handover": "recache",
        }

    def test_json_rows_may_be_called_prompts_and_lack_a_handover(self):
        text = '{"version": 1, "duration": 12, "prompts": [{"start": 0, "prompt": "a"}]}'
        assert PromptSchedule.parse(text) == PromptSchedule.constant("a")

    def test_table_rows_may_hold_texts_and_be_empty(self):
        rows = [["0", "a", None], ["", "", ""], [None, None], ["1:30", "b", "flush"]]
        expected = schedule_of((0, "a", "swap"), (90, "b", "flush"))
        assert PromptSchedule.parse(rows) == expected
        assert PromptSchedule.parse(json.dumps(rows)) == expected

    def test_paths_are_read_and_texts_never_are(self, tmp_path):
        path = tmp_path / "story.txt"
        path.write_text(STORY, encoding="utf-8-sig")
        assert PromptSchedule.parse(path) == PromptSchedule.parse(STORY)
        assert PromptSchedule.parse(str(path)) == PromptSchedule.constant(str(path))


class TestErrors:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("0s: a\n\n5s b", "line 3: '5s b' is not a cue; expected '4.5s: a red car'"),
            ("0s: a\n1:30 b", "line 2: '1:30 b' is not a cue"),
            ("0s a red car", "line 1: '0s a red car' is not a cue"),
            ("-1s: a red car", "line 1: '-1s: a red car' is not a cue"),
            ({"headers": ["a"]}, "got {'headers': ['a']}; expected {\"version\": 1"),
            ("0s: a\n5s [morph]: b", "line 2: hand-over 'morph' is unknown; expected swap"),
            ("0s: a\n5s [blend]: b", "line 2: hand-over 'blend' is unknown"),
            ("0s: a\n5s [blend:0]: b", "line 2: hand-over 'blend' over 0 chunks"),
            ("0s: a\n5s:", "line 2: the prompt is empty; say what to show"),
            ("0s: a\n1:75: b", "line 2: start is '1:75'; expected less than 60"),
            ("0s: a\n5s: b\n0:05: c", "line 3: starts at 5 s, and so does line 2"),
            ("80s: synthwave", "line 1: the first cue starts at 80 s; it must be at 0 s"),
            ("0s: a\n99999999999s: b", "line 2: start is 99999999999.0 s; expected 0 to"),
            ("  \n# nothing", "there is no prompt"),
            ("{", "line 1: not valid JSON"),
            ('{\n"cues": [,]}', "line 2: not valid JSON"),
            ("[" * 100_000, "nested too deeply|recursion"),
            ('{"start": ' + "9" * 5000 + "}", "not a schedule"),
            ('{"version": 2, "cues": []}', "version is 2; expected 1"),
            ('{"version": 1, "cues": []}', "there is no cue"),
            ({"version": 1, "request": {}}, "the manifest of a video, not a schedule"),
            ('{"cue": []}', "got {'cue': []}; expected"),
            ({"cues": "0s: a"}, "got '0s: a'; expected"),
            ([[0, "a"], "b"], "row 2: got 'b'; expected start, prompt, handover"),
            ([[0, "a"], [1, "b", "swap", 4]], "row 2: got"),
            ([{"start": 0, "promt": "a"}], "row 1: key 'promt' is unknown; expected start, prompt"),
            ([[0, "a"], [None, "b"]], "row 2: start is None; expected seconds"),
            ([[0, "a"], [True, "b"]], "row 2: start is True; expected seconds"),
            ([[0, "a"], ["soon", "b"]], "row 2: start is 'soon'; expected seconds such as 4.5s"),
            ([[0, "a"], [-1, "b"]], "row 2: start is -1 s"),
            ([[0, "a"], [math.nan, "b"]], "row 2: start is nan s"),
            ([[0, "a"], [10**400, "b"]], "row 2: start is 1000"),
            ([[0, "a"], [1, None]], "row 2: the prompt is empty"),
            ([[0, "a"], [1, 7]], "row 2: the prompt is 7"),
            ([[0, "a"], [1, "b", 3]], "row 2: hand-over is 3; expected swap"),
            ([[1, "a"]], "row 1: the first cue starts at 1 s"),
            (7, "got 7; expected"),
        ],
    )
    def test_name_the_line_or_row_and_say_what_came(self, source, message):
        with pytest.raises(ScheduleError, match=message.replace("[", r"\[")):
            PromptSchedule.parse(source)

    def test_unreadable_files_are_named_without_their_folder(self, tmp_path):
        with pytest.raises(ScheduleError, match=r"cannot read a schedule from gone\.txt: "):
            PromptSchedule.parse(tmp_path / "gone.txt")
        binary = tmp_path / "clip.mp4"
        binary.write_bytes(b"\xff\xfe\x00\x01" * 10)
        with pytest.raises(ScheduleError, match=r"cannot read a schedule from clip\.mp4: "):
            PromptSchedule.parse(binary)

    def test_place_is_available_to_a_table_editor(self):
        with pytest.raises(ScheduleError) as caught:
            PromptSchedule.parse([[0, "a"], [1, ""]])
        assert caught.value.place == "row 2"
        assert isinstance(caught.value, ValueError)

    @pytest.mark.parametrize(
        ("kind", "chunks"), [("swap", 1), ("blend", 0), ("blend", 1000), ("Swap", 0), ("cut", 0)]
    )
    def test_impossible_handovers_cannot_be_made(self, kind, chunks):
        with pytest.raises(ScheduleError, match="is not possible; expected swap"):
            Handover(kind, chunks)


class TestEditing:
    def test_edits_leave_the_old_schedule_alone(self):
        before = PromptSchedule.parse(STORY)
        before.then(3.0, PromptSchedule.constant("a lake"))
        assert before == PromptSchedule.parse(STORY)

    def test_then_drops_what_was_planned_for_later(self):
        steered = PromptSchedule.parse(STORY).then(3.0, PromptSchedule.constant("a lake"))
        assert [(cue.start, cue.prompt) for cue in steered][1:] == [(3.0, "a lake")]

    def test_then_at_zero_replaces_everything(self):
        other = PromptSchedule.constant("a lake")
        assert PromptSchedule.parse(STORY).then(0, other) == other


class TestSnapping:
    def test_cues_go_to_the_nearest_chunk_and_say_to_which(self):
        starts = [0, 0.6, 0.95, 4.5, 4.9]  # boundaries at 0, 9/16, 21/16, …, 69/16, 81/16
        snapped = schedule_of(*((start, str(start), "swap") for start in starts)).snapped(TIMELINE)
        assert [cue.chunk for cue in snapped.cues] == [0, 1, 2, 6, 7]
        assert [cue.time for cue in snapped.cues] == [0, 9 / 16, 21 / 16, 69 / 16, 81 / 16]

    def test_a_tie_goes_to_the_later_chunk(self):
        middle = (9 + 6) / 16
        assert (
            schedule_of((0, "a", "swap"), (middle, "b", "swap")).snapped(TIMELINE).cues[1].chunk
            == 2
        )

    @pytest.mark.parametrize("pattern", [(3, 3), (1, 3), (1, 1), (2, 5)])
    @pytest.mark.parametrize("fps", [16, 24, 30000 / 1001])
    def test_the_start_of_a_chunk_snaps_to_that_chunk(self, pattern, fps):
        timeline = Timeline(LatentGrid(480, 832), ChunkPattern(*pattern), fps)
        for chunk in (*range(1, 200), 99_999):
            schedule = schedule_of((0, "a", "swap"), (timeline.start_time(chunk), "b", "swap"))
            assert schedule.snapped(timeline).cues[1].chunk == chunk

    def test_of_two_cues_on_one_chunk_the_later_wins_and_this_is_reported(self):
        schedule = schedule_of((0, "a", "swap"), (1.2, "b", "flush"), (1.4, "c", "swap"))
        snapped = schedule.snapped(TIMELINE)
        assert [cue.replaced_by for cue in snapped.cues] == [None, schedule.cues[2], None]
        assert snapped.at(2).cue.prompt == "c"
        assert snapped.starting(2).cue.handover == Handover("swap")

    def test_a_cue_near_zero_replaces_the_first(self):
        snapped = schedule_of((0, "a", "swap"), (0.1, "b", "swap")).snapped(TIMELINE)
        assert snapped.mix(0) == (("b", 1.0),)

    def test_before_the_end_is_the_last_chunk_and_after_it_an_error(self):
        schedule = schedule_of((0, "a", "swap"), (2.0, "b", "swap"))  # 3 chunks end at 33/16 s
        assert schedule.snapped(TIMELINE, 3).cues[1].chunk == 2
        assert schedule.snapped(TIMELINE).cues[1].chunk == 3
        with pytest.raises(
            ScheduleError, match=r"cue 2: starts at 2 s, but the video ends at 1\.3"
        ):
            schedule.snapped(TIMELINE, 2)

    def test_every_chunk_has_one_prompt_and_only_hand_overs_start(self):
        snapped = at_chunks((0, "a", "swap"), (2, "b", "recache"), (5, "c", "swap"))
        assert [snapped.at(chunk).cue.prompt for chunk in range(7)] == list("aabbbcc")
        assert [chunk for chunk in range(7) if snapped.starting(chunk)] == [0, 2, 5]


class TestMixing:
    def test_blend_interpolates_over_its_chunks(self):
        snapped = at_chunks((0, "a", "swap"), (2, "b", "blend:3"))
        assert [dict(snapped.mix(chunk)) for chunk in range(1, 7)] == [
            {"a": 1.0},
            {"a": 0.75, "b": 0.25},
            {"a": 0.5, "b": 0.5},
            {"a": 0.25, "b": 0.75},
            {"b": 1.0},
            {"b": 1.0},
        ]

    @pytest.mark.parametrize("handover", ["swap", "recache", "flush"])
    def test_the_other_hand_overs_are_at_once(self, handover):
        snapped = at_chunks((0, "a", "swap"), (2, "b", handover))
        assert [snapped.mix(chunk) for chunk in (1, 2)] == [(("a", 1.0),), (("b", 1.0),)]

    def test_the_first_prompt_has_nothing_to_blend_with(self):
        assert at_chunks((0, "a", "blend:5")).mix(0) == (("a", 1.0),)

    def test_a_cue_that_cuts_into_a_blend_starts_from_its_mixture(self):
        snapped = at_chunks((0, "a", "swap"), (1, "b", "blend:3"), (3, "c", "blend:1"))
        assert dict(snapped.mix(2)) == {"a": 0.5, "b": 0.5}
        assert dict(snapped.mix(3)) == {"a": 0.25, "b": 0.25, "c": 0.5}
        assert dict(snapped.mix(4)) == {"c": 1.0}

    def test_blending_back_never_counts_a_prompt_twice(self):
        snapped = at_chunks((0, "a", "swap"), (1, "b", "blend:3"), (2, "a", "blend:1"))
        assert dict(snapped.mix(2)) == {"a": 0.875, "b": 0.125}

    def test_weights_add_up_to_one(self):
        cues = [(chunk, str(chunk), f"blend:{1 + chunk % 7}") for chunk in range(0, 60, 3)]
        snapped = at_chunks(*cues)
        for chunk in range(80):
            assert math.isclose(sum(weight for _, weight in snapped.mix(chunk)), 1.0)
