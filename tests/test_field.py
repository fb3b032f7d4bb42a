"""Which tests belong to which complaint from the field: the case itself, and others of its kind.

The cases are people's complaints about programs like this one that were true of it. Most tests here
are parametrised: the case itself is one of their values, the others are more of its kind.
"""

import re
from pathlib import Path

import pytest

ADAPTERS, SOURCES = "model/test_adapters.py", "serving/test_sources.py"
PICTURES, LENGTHS = "media/test_pictures.py", "media/test_lengths.py"
INTERRUPTED, SCHEDULES = "commands/test_interrupted.py", "generation/test_written_schedules.py"
NAMING = f"{ADAPTERS}::test_every_naming_adds_exactly_what_its_matrices_say"
REFUSED = f"{ADAPTERS}::test_what_cannot_be_applied_is_refused_and_changes_nothing"
OVERWRITTEN = "commands/test_commands.py::test_what_a_video_is_made_from_is_not_overwritten"
NAMED = "commands/test_commands.py::test_a_source_is_not_overwritten_by_whatever_name"
STORED = f"{LENGTHS}::test_a_length_is_that_of_what_is_stored"
CLAIMED = f"{SOURCES}::test_a_run_ends_in_order_at_the_limit_whatever_its_source_claimed"

CASES = {
    "01 the manifest replaces the schedule": [OVERWRITTEN, NAMED],
    "02 the source is replaced by the result": [OVERWRITTEN, NAMED],
    "03 a manifest's call is refused": [
        "serving/test_calls.py::test_the_call_of_a_rounded_length_is_accepted_and_makes_the_same_frames",
        "serving/test_calls.py::test_the_call_of_a_limit_of_work_is_accepted",
        "serving/test_calls.py::test_an_extension_beyond_the_limit_says_that_no_call_makes_it",
    ],
    "04 a stream without time stamps": [STORED, CLAIMED],
    "05 joined recordings": [
        STORED,
        CLAIMED,
        "media/test_media.py::test_a_clock_that_restarts_goes_on",
    ],
    "06 half an emoji": [
        "ui/test_gate.py::test_half_an_emoji_is_made_into_a_sign_for_what_is_missing",
        "ui/test_transport.py::test_what_is_passed_on_is_unicode",
        "ui/test_transport.py::test_bytes_of_half_an_emoji_are_mended_too",
    ],
    "07 huge integers": ["ui/test_gate.py::test_a_huge_integer_is_refused_with_the_usual_sentence"],
    "08 seeds of NumPy": [
        "generation/test_parameters.py::test_a_whole_number_of_any_type_is_the_same_seed",
        "generation/test_parameters.py::test_anything_else_is_refused_by_name_before_any_work",
    ],
    "09 seeds of the command": [
        "generation/test_parameters.py::test_the_command_takes_the_seeds_that_the_server_takes"
    ],
    "10 foreign notations": [
        f"{SCHEDULES}::test_another_notation_is_refused_with_its_line_and_the_form",
        f"{SCHEDULES}::test_words_with_numbers_are_one_prompt",
    ],
    "11 HDR": [
        "media/test_display.py::test_wide_and_bright_colours_are_brought_down_and_it_is_told",
        "media/test_display.py::test_highlights_of_hdr_are_brighter_than_white_and_not_all_the_same",
    ],
    "12 a long file name": [f"{INTERRUPTED}::test_a_name_that_a_file_can_have_is_given_to_it"],
    "13 an interrupted run": [
        f"{INTERRUPTED}::test_a_signal_keeps_what_was_made",
        f"{INTERRUPTED}::test_a_failure_keeps_what_was_made_and_is_told",
        f"{INTERRUPTED}::test_a_stopped_video_can_be_made_again",
        "serving/test_serving.py::test_a_run_that_breaks_keeps_what_was_made",
        "serving/test_serving.py::test_of_a_lent_device_that_is_taken_away_what_was_made_is_kept",
    ],
    "14 a part of a long clip": [f"{SOURCES}::test_of_a_long_source_a_part_is_taken"],
    "15 a bad EXIF value": [
        f"{PICTURES}::test_bad_metadata_never_makes_a_picture_damaged",
        f"{PICTURES}::test_every_orientation_is_undone",
        f"{PICTURES}::test_an_orientation_that_is_none_turns_nothing",
    ],
    "16 a LoRA that matches nothing": [NAMING, REFUSED],
    "17 down and up under the names of diffusers": [
        NAMING,
        f"{ADAPTERS}::test_an_alpha_beside_the_file_or_in_its_head_counts",
    ],
    "18 data URLs leave files": [
        "ui/test_api.py::test_a_picture_in_an_agents_call_goes_with_the_uploads",
        "ui/test_api.py::test_a_video_in_an_agents_call_goes_with_the_uploads",
        "ui/test_api.py::test_too_large_a_picture_in_an_agents_call_is_refused_with_the_way_out",
    ],
    "19 pip install": [
        "test_packaging.py::test_a_wheel_holds_weights_judge_gallery_and_page",
        "test_packaging.py::test_a_working_copy_is_installed_without_what_else_lies_there",
        "test_packaging.py::test_an_installed_wheel_finds_its_files_and_has_its_command",
    ],
    "20 a proxy in the environment": [
        "ui/test_transport.py::test_our_own_address_is_not_asked_through_a_proxy",
        "ui/test_transport.py::test_a_proxy_that_cannot_be_used_is_told",
    ],
    "21 transparent video": ["media/test_display.py::test_what_is_transparent_is_white"],
    "22 a nominal rate of 1000": [f"{LENGTHS}::test_a_nominal_rate_is_not_the_rate"],
    "23 large seeds in the page": [
        "ui/test_ui_page.py::test_a_seed_that_a_browser_has_rounded_is_refused"
    ],
    "24 extending beyond the source": [
        f"{SOURCES}::test_a_run_that_followed_its_source_to_the_end_cannot_go_on",
        f"{SOURCES}::test_a_run_that_took_a_part_of_its_source_goes_on_in_it",
        f"{SOURCES}::test_that_a_source_is_at_its_end_may_be_found_by_going_on",
    ],
    "25 where the result goes": [
        f"{INTERRUPTED}::test_a_place_that_cannot_be_written_is_told_before_weights_are_loaded",
        f"{INTERRUPTED}::test_if_only_the_last_step_fails_the_video_stays_and_its_place_is_told",
    ],
    "26 HEIC": [
        f"{PICTURES}::test_an_heic_photograph_is_named_where_it_cannot_be_read",
        f"{PICTURES}::test_an_heic_photograph_is_read_where_it_can_be",
        f"{PICTURES}::test_avif_is_read_and_not_taken_for_heic",
    ],
    "27 interlaced": [
        "media/test_display.py::test_interlaced_video_has_no_combs_and_keeps_its_time",
        "media/test_display.py::test_progressive_video_is_left_alone",
    ],
    "28 the sound is gone": [
        "media/test_sound.py::test_the_sound_of_the_same_span_is_kept",
        "media/test_sound.py::test_sound_that_begins_later_does_so",
        "media/test_sound.py::test_sound_that_cannot_be_used_leaves_the_video_as_it_was",
        f"{SOURCES}::test_the_sound_of_a_source_goes_along",
    ],
    "29 what the page lets in": [
        "ui/test_browser.py::test_the_video_tab_takes_whatever_the_server_reads"
    ],
    "30 the network blinks": [
        "ui/test_lost_page.py::test_a_run_waits_for_its_page_which_goes_on_from_where_it_was",
        "ui/test_lost_page.py::test_after_the_time_the_device_is_free_and_the_page_is_offered_what_was_made",
        "ui/test_lost_page.py::test_a_dropped_call_of_the_api_can_be_extended",
        "ui/test_lost_page.py::test_a_page_that_reconnects_before_its_old_stream_is_missed_gets_the_run",
    ],
    "31 animated pictures": [
        "media/test_media.py::test_animations_are_read_with_their_own_times",
        "media/test_media.py::test_a_webp_that_cannot_be_read_as_a_video_is_refused_by_its_name",
        "media/test_display.py::test_of_an_animated_avif_the_animation_is_read",
    ],
    "32 a profile and transparency": [
        f"{PICTURES}::test_a_profile_is_converted_in_every_mode",
        f"{PICTURES}::test_half_transparent_pixels_are_laid_on_white_after_their_conversion",
    ],
    "33 pictures as video": [
        "test_pipeline.py::test_pictures_of_any_size_and_kind_are_a_source",
        "test_pipeline.py::test_what_is_no_source_is_told",
    ],
    "34 DoRA": [REFUSED],
    "35 a LoRA of another size": [REFUSED],
    "36 LoKr and its kin": [REFUSED],
    "37 biases without matrices": [
        f"{ADAPTERS}::test_differences_of_weights_and_biases_are_applied",
        f"{ADAPTERS}::test_a_layer_may_have_differences_only",
        f"{ADAPTERS}::test_differences_of_norms_are_counted_in_one_warning",
    ],
    "38 a hole in time": [
        f"{LENGTHS}::test_a_hole_in_time_is_a_cut",
        f"{LENGTHS}::test_a_picture_that_is_to_stand_for_long_does",
    ],
    "39 the last bytes are missing": [
        f"{PICTURES}::test_a_picture_whose_last_bytes_are_missing_is_read",
        f"{PICTURES}::test_a_picture_that_is_mostly_missing_is_refused_in_words",
        f"{PICTURES}::test_a_progressive_photograph_is_read_as_far_as_it_goes",
    ],
    "40 schedules in other encodings": [
        f"{SCHEDULES}::test_a_mark_tells_the_encoding_of_a_file",
        f"{SCHEDULES}::test_a_file_in_another_encoding_is_told_which_one_to_use",
        f"{SCHEDULES}::test_a_mark_before_a_text_is_no_part_of_it",
    ],
    "41 sizes of other programs": [
        "generation/test_parameters.py::test_a_size_is_read_in_every_common_form",
        "generation/test_parameters.py::test_what_is_no_size_is_answered_with_the_form",
    ],
    "42 habits of diffusers": [
        "test_pipeline.py::test_unknown_arguments_are_answered_with_what_to_use",
        "test_pipeline.py::test_frames_are_written_to_a_file_as_they_are_returned",
    ],
    "44 fused and unfused": [
        f"{ADAPTERS}::test_fusing_is_undone_to_the_last_bit",
        f"{ADAPTERS}::test_two_adapters_fused_one_after_the_other_are_undone_together",
    ],
    "49 containers of checkpoints": [
        "model/test_checkpoint.py::test_files_that_are_no_weights_say_what_they_are",
        "model/test_checkpoint.py::test_every_known_wrapping_gives_the_same_names",
    ],
    "51 no room left": [
        "serving/test_room.py::test_a_run_in_the_making_goes_on_without_room_and_keeps_what_had_some",
        "serving/test_room.py::test_on_a_small_disk_every_run_is_made",
        f"{INTERRUPTED}::test_a_full_disk_is_a_sentence_and_what_had_room_plays",
    ],
    "52 thirty-two-bit grey": [
        f"{PICTURES}::test_grey_of_any_depth_keeps_its_ramp",
        f"{PICTURES}::test_a_dark_16_bit_picture_stays_dark",
    ],
    "57 colours through the codec": [
        "media/test_media.py::test_a_result_that_is_fed_back_in_keeps_its_colours"
    ],
    "61 the count of a trimmed file": [
        f"{LENGTHS}::test_of_a_file_that_is_trimmed_only_what_is_shown_is_counted"
    ],
    "73 a small limit of length": ["ui/test_ui_page.py::test_any_length_can_be_the_longest"],
}


@pytest.mark.parametrize("case", CASES)
def test_the_tests_of_a_case_are_there(case):
    for address in CASES[case]:
        file, name = address.split("::")
        text = (Path(__file__).parent / file).read_text(encoding="utf-8")
        assert re.search(rf"def {name}\(", text), f"{address} is gone: which tests are of {case}?"
