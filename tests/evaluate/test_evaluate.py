"""The evaluation: its measures keep their laws, and its command runs on any exported folder."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from causvid.__main__ import main
from causvid.evaluate import PARTS, ablations
from causvid.evaluate.adherence import adherence
from causvid.evaluate.instruments import accuracy
from causvid.evaluate.motion import motion
from causvid.evaluate.pictures import frechet_distance, pictures
from causvid.evaluate.report import MEASUREMENTS, TARGETS, Report
from causvid.evaluate.session import Grid, MeasuredClip, measure
from causvid.evaluate.subjects import Case, Subject, Video, byte_psnr, cases, changes
from causvid.evaluate.switch import Switch, summary
from causvid.model.tiny_autoencoder import TinyAutoencoder
from causvid.model.transformer import CausalWanTransformer
from causvid.training.models import export, new_model
from causvid.training.recipes import POCKET
from causvid.world import ATTRIBUTES, VOCABULARY, render
from causvid.world.judge import Judge
from causvid.world.tokenizer import word_tokenizer

ROOT = Path(__file__).parents[2]
GRID = Grid(cell=16, boundaries=(1, 13))


def rendered(case: Case, frames: int) -> np.ndarray:
    return render(case.scene, frames=frames, seed=case.seed)


def truth(frames: int) -> Subject:
    """The world itself, as a subject."""
    return lambda case: Video(rendered(case, frames))


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load()


@pytest.fixture(scope="module")
def real(judge) -> list[MeasuredClip]:
    return list(measure(truth(25), cases(6, seed=0), judge, GRID))


def exported(path: Path, **generation: int) -> Path:
    """A model of the pocket's shape that has learned nothing, as `train export` writes it."""
    torch.manual_seed(0)
    vae = TinyAutoencoder(
        latent_channels=8,
        patch_size=4,
        space_scales=(2, 2, 1),
        encoder_channels=(8, 8, 8, 8),
        decoder_channels=(8, 8, 8, 8),
        decoder_blocks=(1, 1, 1),
    )
    shape = replace(
        POCKET.transformer,
        num_attention_heads=1,
        attention_head_dim=16,
        in_channels=8,
        out_channels=8,
        text_dim=16,
        freq_dim=16,
        ffn_dim=16,
        num_layers=1,
    )
    tokenizer = word_tokenizer(VOCABULARY, shape.text_length)
    models = [new_model(shape, len(tokenizer), seed) for seed in (0, 1)]
    export(path, *models, vae, tokenizer, replace(POCKET.generation, **generation))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return exported(tmp_path_factory.mktemp("exported"))


def run(capsys, *arguments: object) -> dict:
    assert main(["evaluate", "--json", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


# What is asked for


def test_prompts_are_fixed_and_half_of_them_were_never_trained_on():
    drawn = cases(20, seed=0)
    assert drawn[:7] == cases(7, seed=0)
    assert drawn != cases(20, seed=1)
    assert [case.unseen for case in drawn] == [True, False] * 10


def test_a_change_parts_attributes_into_changed_and_kept():
    for change in changes(20, seed=0):
        assert 1 <= len(change.changed) <= 4  # an object may force another ground or motion
        assert {*change.changed, *change.kept} == set(ATTRIBUTES)
        old, new = change.before.scene, change.after.scene
        assert all(getattr(old, name) != getattr(new, name) for name in change.changed)
        assert change.before.unseen == change.after.unseen


# Measures


def test_rendered_clips_adhere_and_other_prompts_do_not(real):
    assert adherence(real)["mean"] > 0.97
    shifted = [
        replace(clip, case=other.case)
        for clip, other in zip(real, real[1:] + real[:1], strict=True)
    ]
    assert adherence(shifted)["mean"] < 0.7
    assert sum(adherence(shifted)["misread"].values()) > 10
    assert not adherence(real)["misread"]


def test_adherence_is_the_mean_over_attributes_and_over_both_kinds_of_prompt(real):
    result = adherence(real)
    assert result["mean"] == pytest.approx(sum(result["attributes"].values()) / len(ATTRIBUTES))
    assert result["mean"] == pytest.approx((result["seen"] + result["unseen"]) / 2)
    assert adherence(real[:1])["seen"] is None


def test_rendered_clips_are_their_own_measure(real):
    figures = pictures(real, real)
    assert figures["frechet_looks"] == pytest.approx(0, abs=1e-6)
    assert figures["frechet_motion"] == pytest.approx(0, abs=1e-6)
    for name in ("seam", "sharpness", "contrast", "chunk_flicker"):
        assert figures[name] == pytest.approx(1)
    assert figures["latent_std"] is None


def test_the_frechet_distance_is_that_of_gaussians():
    features = torch.randn(600, 3, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    shift = torch.tensor([1.0, 0.0, 2.0])
    assert frechet_distance(features, features + shift) == pytest.approx(5, abs=1e-4)
    # two isotropic Gaussians whose deviations differ by one: one for each dimension
    assert frechet_distance(features, 2 * features) == pytest.approx(3, abs=0.4)
    one, other = features, 2 * features + shift
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one))


def test_a_grid_raises_the_seam_and_a_flash_the_flicker(judge):
    case = cases(1, seed=0)[0]

    def measured(frames: np.ndarray) -> MeasuredClip:
        video = Video(frames.clip(0, 255).astype(np.uint8))
        return MeasuredClip.of(case, video, judge, GRID)

    frames = rendered(case, 25).astype(np.int64)
    plain = measured(frames)
    tiles = np.indices(frames.shape[1:3]) // 16
    tiled = frames + 20 * (tiles.sum(0) % 2)[None, :, :, None]
    assert measured(tiled).seam > 1.5 * plain.seam
    flashing = measured(frames + 20 * (np.arange(25) >= 13)[:, None, None, None])
    assert flashing.at_starts > plain.at_starts + 5
    assert flashing.elsewhere == pytest.approx(plain.elsewhere)


def test_blur_is_less_sharp(real, judge):
    def blurred(case: Case) -> Video:
        frames = torch.from_numpy(rendered(case, 25)).permute(0, 3, 1, 2).float()
        soft = torch.nn.functional.avg_pool2d(frames, 5, 1, 2, count_include_pad=False)
        return Video(soft.round().to(torch.uint8).permute(0, 2, 3, 1).numpy())

    soft = list(measure(blurred, [clip.case for clip in real], judge, GRID))
    figures = pictures(soft, real)
    assert figures["sharpness"] < 0.8
    assert figures["frechet_looks"] > 0


def test_psnr_of_equal_pictures_is_the_ceiling():
    picture = np.full((4, 4, 3), 100, np.uint8)
    assert byte_psnr(picture, picture) == 60
    assert byte_psnr(picture, picture + 1) == pytest.approx(48.13, abs=0.01)


def test_a_switch_is_in_time_when_its_last_attribute_is():
    change, strip = changes(1, seed=0)[0], np.zeros((1, 2, 2, 3), np.uint8)

    def switch(*seconds: float | None) -> Switch:
        names = ("colour", "time", "ground")
        reaction = dict(zip(names, seconds, strict=False))
        return Switch(change, reaction, {**reaction, "colour": 3.0}, 1.0, strip)

    result = summary([switch(0.5), switch(0.5, 1.9), switch(1.0, 2.5, 0.5), switch(None)])
    assert result["briefly_in_time"] == 0
    assert result["in_time"] == 0.5
    assert result["by_changes"] == {1: 0.5, 2: 1.0, 3: 0.0}
    assert result["attributes_in_time"] == {"colour": 0.75, "ground": 1.0, "time": 0.5}
    assert result["median"] == 1.9 and result["late"] is None


def test_the_judges_accuracy_is_over_held_out_scenes(judge):
    result = accuracy(judge, range(4), frames=12, seed=0)
    assert result["clips"] == 4
    assert result["whole"].keys() == result["windows"].keys() == ATTRIBUTES.keys()
    assert min(result["whole"].values()) >= 0.75


def test_only_what_was_measured_is_held_against_targets():
    report = Report(None, {"adherence": {"teacher": {"mean": 0.96}}})
    (target,) = report.targets()
    assert target["name"] == "adherence, teacher" and target["kept"]
    assert Report(None).targets() == []
    assert len({target.name for target in TARGETS}) == len(TARGETS)


def test_the_shipped_report_can_be_read():
    report = Report.open(ROOT / "assets" / "report")
    assert tuple(report.figures) == PARTS == tuple(MEASUREMENTS)
    for name in PARTS:
        assert report.table(name).format("pipe").count("\n") > 1
    assert len(report.targets()) == len(TARGETS) and all(it["kept"] for it in report.targets())


# Motion that lasts


@pytest.mark.slow
def test_a_video_that_begins_every_chunk_anew_moves_within_chunks_only(judge):
    def restarting(case: Case) -> Video:
        """The truth for one chunk, again and again."""
        frames = rendered(case, 161)
        return Video(frames[1 + (np.arange(len(frames)) - 1) % 12])

    grid = Grid(16, tuple(range(1, 161, 12)))
    asked = [case for case in cases(40, 0) if case.scene.motion in ("left", "right", "rise")][:8]
    going = motion(truth(161), asked, judge, grid, 16)
    anew = motion(restarting, asked, judge, grid, 16)
    assert going["streams"] == anew["streams"] == len(asked) == 8
    assert len(going["spans"]) == 5 and min(going["spans"]) > 0.95
    assert min(going["within"], going["across"]) > 0.95
    assert anew["within"] > 0.9 and anew["across"] < 0.7


# The command


@pytest.mark.slow
def test_every_part_runs_on_an_exported_folder_and_is_reported(capsys, folder, tmp_path):
    sizes = (
        *("--judge-clips", 2, "--codec-clips", 2, "--prompts", 2),
        *("--switches", 1, "--images", 1, "--videos", 1, "--motions", 1),
        *("--given", 1, "--spreads", 1, "--restyled", 1),
    )
    arguments = ("--model", folder, "--quick", *sizes, "--minutes", 0.1, "--teacher-steps", 2)
    report = tmp_path / "report"
    found = run(capsys, *arguments, "--report", report)
    assert found["figures"].keys() == set(PARTS) - {"ablations"}
    assert found["figures"]["adherence"]["student"]["clips"] == 2
    assert found["figures"]["given"]["rendered"]["kept"]["10.0"] == 1.0
    assert found["figures"]["codec"]["clips"] == 2 and found["figures"]["codec"]["psnr"] > 5
    assert found["figures"]["switch"]["world"]["in_time"] == 1.0
    assert len(found["figures"]["motion"]["student"]["spans"]) == 5
    assert found["figures"]["pictures"]["rendered again"]["seam"] == pytest.approx(1, abs=0.3)
    assert {target["name"] for target in found["targets"]} >= {"switches in time, recache"}
    kept = json.loads((report / "report.json").read_text())
    assert kept["figures"] == found["figures"]
    readme = (report / "README.md").read_text()
    assert "## Prompt switches" in readme and "| recache (1) " in readme
    assert {path.name for path in report.glob("*.png")} == {
        *(f"{name}-sheet.png" for name in ("student", "teacher", "reconstructed", "minutes")),
        *(f"{name}-sheet.png" for name in ("switches", "images", "videos")),
        *(f"given-{kind}-sheet.png" for kind in ("world", "doodles", "photographs")),
        *(f"{name}-sheet.png" for name in ("seeds", "restyle")),
        *(f"{name}-plot.png" for name in ("adherence", "switch", "video", "drift")),
    }
    # A part that is measured again replaces its figures and leaves the others.
    again = run(capsys, *arguments, "--report", report, "--only", "image", "--images", 2)
    assert again["figures"]["image"]["clips"] == 2
    assert again["figures"]["drift"] == found["figures"]["drift"]
    assert str(folder.parent) not in (report / "report.json").read_text()


@pytest.mark.slow
def test_students_trained_in_other_ways_are_compared(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(ablations, "LONG_SECONDS", 2.0)
    monkeypatch.setattr(ablations, "LAST_SECONDS", 1.0)
    model = CausalWanTransformer.from_pretrained(folder / "transformer")
    for name in ("mine", "other"):
        average = tmp_path / name / "checkpoints" / "step-00000001" / "average"
        model.save_pretrained(average / "transformer")
        torch.nn.init.normal_(model.proj_out.weight, std=0.1)
    rivals = [f"{name}={tmp_path / name}" for name in ("mine", "other")]
    sizes = (
        "--prompts",
        2,
        "--streams",
        1,
        "--only",
        "ablations,adherence",
        "--subjects",
        "student",
    )
    found = run(capsys, "--model", folder, *sizes, "--rivals", *rivals)["figures"]
    mine, other = found["ablations"]["mine"], found["ablations"]["other"]
    assert mine != other
    assert mine["adherence"] == found["adherence"]["student"]["mean"], "judged as the shipped one"
    assert 0 <= mine["late"] <= 1 and mine["contrast"] > 0
    assert main(["evaluate", "--model", str(folder), "--only", "ablations"]) == 2
    assert "pass --rivals" in capsys.readouterr().err


@pytest.mark.slow
def test_the_shipped_student_shows_what_it_is_asked_for(capsys):
    arguments = ("--quick", "--only", "adherence", "--prompts", 4, "--subjects", "student")
    found = run(capsys, *arguments)
    student = found["figures"]["adherence"]["student"]
    assert student["clips"] == 4
    assert student["mean"] > 0.7
    assert student["attributes"]["ground"] == student["attributes"]["time"] == 1.0


def test_the_same_seed_gives_the_same_figures(capsys, folder):
    arguments = ("--model", folder, "--only", "adherence", "--prompts", 1, "--teacher-steps", 1)
    figures = [run(capsys, *arguments)["figures"] for _ in range(2)]
    assert_close(figures[0], figures[1], rtol=0, atol=0)


@pytest.mark.slow
def test_a_model_of_another_size_is_evaluated_at_its_size(capsys, tmp_path):
    folder = exported(tmp_path / "small", height=64, width=96)
    shutil.rmtree(folder / "teacher")
    sizes = ("--codec-clips", 1, "--prompts", 1, "--switches", 1, "--images", 1, "--videos", 1)
    parts = ("--only", "codec,adherence,pictures,switch,image,video", "--report", tmp_path / "it")
    found = run(capsys, "--model", folder, *sizes, *parts)
    assert list(found["figures"]["adherence"]) == ["student", "reconstructed"]
    with Image.open(tmp_path / "it" / "student-sheet.png") as sheet:
        assert sheet.height < 128


def test_a_model_of_another_world_is_refused_before_its_weights_are_fetched(capsys):
    assert main(["evaluate", "--model", "self-forcing", "--only", "codec"]) == 2
    assert "the judge knows the procedural world alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--prompts", 0), "--prompts must be more than 0, got 0"),
        (("--model", "no/such"), "no/such"),
        (("--judge", "no/such"), "train judge"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, complaint, capsys):
    assert main(["evaluate", *map(str, arguments), "--only", "adherence"]) == 2
    assert complaint in capsys.readouterr().err


def test_unknown_parts_are_named(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--only", "adherence,colour"])
    assert "unknown part colour" in capsys.readouterr().err
