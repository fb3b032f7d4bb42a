"""A model is asked for by name, by folder or by Hub id, everywhere alike."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from causvid import load
from causvid.generation.geometry import Size
from causvid.model.weight_files import CHECKSUMS
from causvid.presets import hub
from causvid.presets.catalogue import PRESETS
from causvid.presets.preflight import preflight
from causvid.presets.preset import PresetError
from causvid.presets.registry import FILE, describe, get_preset, list_presets
from causvid.serving.models import Models
from causvid.serving.settings import Settings, SettingsError
from tests.standin import save_standin


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_standin(tmp_path_factory.mktemp("weights")).folder


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def rewrite(folder: Path, **changes) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, **changes}))
    (folder / CHECKSUMS).unlink(missing_ok=True)


def frames(pipe) -> bytes:
    return pipe("a red car", seconds=0.5, output_type="uint8").frames.tobytes()


class TestFolder:
    def test_it_is_a_preset_that_says_what_can_be_found_out(self, folder):
        preset = get_preset(str(folder))
        assert preset == get_preset(folder)
        assert preset.name == "standin"
        assert preset.sizes == (Size(64, 96), Size(96, 64))
        assert preset.generation.sink == 2
        assert not preset.has_tiny_decoder
        assert not preset.repositories()
        assert json.dumps(describe(preset))
        assert preflight(folder, seconds=2).chunks == preflight(preset, seconds=2).chunks

    @pytest.mark.parametrize(
        ("more", "sizes"),
        [
            (["64x96", "80x80"], [(64, 96), (96, 64), (80, 80)]),
            (["128x32"], [(64, 96), (32, 128)]),
            ([], [(64, 96), (96, 64)]),
        ],
    )
    def test_it_knows_the_shapes_that_it_was_trained_in(self, copy, more, sizes):
        settings = get_preset(copy).generation.to_dict() | {"more_sizes": more}
        rewrite(copy, generation=settings)
        preset = get_preset(copy)
        assert list(preset.sizes) == sizes
        assert preset.mixed_sizes == bool(more)
        again = type(preset.generation).from_dict(preset.generation.to_dict())
        assert again == preset.generation
        assert ("more_sizes" in preset.generation.to_dict()) == bool(more)

    def test_folders_exported_by_version_0_1_load(self, folder, copy):
        rewrite(
            copy,
            transformer=["causvid.transformer", "CausalWanTransformer"],
            vae=["causvid.autoencoder_tiny", "TinyAutoencoder"],
        )
        assert frames(load(copy, device="cpu")) == frames(load(folder, device="cpu"))

    def test_its_tiny_decoder_is_found(self, folder, copy):
        shutil.copytree(copy / "vae", copy / "tiny_vae")
        rewrite(copy, tiny_vae=["causvid", "TinyAutoencoder"])
        assert get_preset(copy).has_tiny_decoder
        assert preflight(copy, decoder="tiny").weights_bytes > preflight(copy).weights_bytes
        assert load(copy, device="cpu", tiny_decoder=True).tiny_vae is not None

    def test_a_visitor_names_what_is_offered_and_no_folders(self, folder, copy):
        models = Models(Settings(model=str(folder), device="cpu"))
        assert models.preset("standin").folder == folder
        for other in (str(folder), str(copy), "ada/boats"):
            with pytest.raises(ValueError, match="offered are standin"):
                models.open(other)

    def test_two_folders_of_one_name_are_not_offered_together(self, folder, tmp_path):
        other = shutil.copytree(folder, tmp_path / "elsewhere" / "standin")
        with pytest.raises(SettingsError, match="another model is called 'standin', too: rename"):
            Settings(model=str(folder), models=(str(other),), device="cpu")

    def test_its_card_states_the_licence(self, copy):
        assert get_preset(copy).licence.commercial_use
        (copy / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# Mine\n")
        licence = get_preset(copy).licence
        assert (licence.name, licence.commercial_use) == ("cc-by-nc-4.0", False)
        (copy / "README.md").write_text("Trained on boats.\n")
        assert get_preset(copy).licence.name == "not stated"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("./nowhere", "there is no folder ./nowhere: expected one that `train export`"),
            ("~/no/where", "there is no folder"),
            ("/no/where", "there is no folder /no/where"),
        ],
    )
    def test_one_that_is_not_there(self, name, message):
        with pytest.raises(PresetError, match=message):
            get_preset(name)

    def test_one_with_something_else_in_it(self, copy):
        rewrite(copy, _class_name="WanPipeline")
        with pytest.raises(PresetError, match="holds a WanPipeline, expected a CausVidPipeline"):
            get_preset(copy)
        rewrite(copy, _class_name="CausVidPipeline", generation={"windou": 3})
        with pytest.raises(PresetError, match=r"does not say how the model generates.*windou"):
            get_preset(copy)
        (copy / "model_index.json").write_text("{")
        with pytest.raises(PresetError, match=r"is damaged: it is no JSON .*cloned completely"):
            get_preset(copy)
        (copy / "model_index.json").unlink()
        with pytest.raises(PresetError, match=r"holds no model_index\.json: expected a folder"):
            get_preset(copy)

    def test_weights_that_are_missing_or_no_weights(self, copy):
        weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
        weights.write_text("version https://git-lfs.github.com/spec/v1\n")
        with pytest.raises(PresetError, match=r"is a Git LFS pointer.*cloned completely") as caught:
            load(copy, device="cpu")
        assert "\n" not in str(caught.value)
        weights.unlink()
        with pytest.raises(PresetError, match=r"there is no file .*diffusion_pytorch_model"):
            load(copy, device="cpu")


class TestHub:
    @pytest.fixture
    def downloads(self, folder, tmp_path, monkeypatch) -> list:
        commit, asked = "c" * 40, []

        def snapshot_download(repo, *, revision, allow_patterns, token, local_files_only):
            asked.append((repo, revision, allow_patterns is None, token, local_files_only))
            return shutil.copytree(folder, tmp_path / commit, dirs_exist_ok=True)

        monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
        monkeypatch.setattr(hub, "_reachable", lambda: True)
        return asked

    def test_settings_come_first_and_weights_of_the_same_commit_when_loaded(self, downloads):
        preset = get_preset("ada/boats@v2", token="hf_secret")
        assert preset.name == "ada/boats@v2"
        assert preset.repositories() == {"ada/boats": "c" * 40}
        assert not preset.licence.commercial_use, "nobody said that it is allowed"
        assert describe(preset)["weights"] == {"repo": "ada/boats", "revision": "c" * 40}
        with load(preset, device="cpu").stream("a red car", seconds=0.5) as stream:
            assert stream.step().frames.shape == (1, 64, 96, 3)
        assert downloads == [
            ("ada/boats", "v2", False, "hf_secret", False),
            ("ada/boats", "c" * 40, True, None, False),
        ]

    def test_without_a_network_a_sentence_comes_at_once(self, monkeypatch, tmp_path):
        monkeypatch.setattr(hub, "_reachable", lambda: False)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(PresetError, match=r"'ada/boats' is no folder here; .*connect once"):
            get_preset("ada/boats")

    def test_a_hub_that_does_not_answer_is_asked_once(self, monkeypatch):
        monkeypatch.setattr(hub.constants, "ENDPOINT", "http://127.0.0.1:9")
        assert not hub._reachable()


class TestFile:
    @pytest.fixture
    def write(self, tmp_path, monkeypatch):
        def write(entries) -> Path:
            file = tmp_path / "presets.json"
            file.write_text(entries if isinstance(entries, str) else json.dumps(entries))
            monkeypatch.setenv(FILE, str(file))
            return file

        return write

    def test_a_preset_is_another_with_changes(self, write):
        write(
            {
                "mine": {
                    "like": "self-forcing",
                    "title": "My own",
                    "generation": {"window": 12, "sink": 3},
                    "weights": {"path": "mine.pt"},
                    "sizes": [[480, 832]],
                }
            }
        )
        mine, base = get_preset("mine"), PRESETS["self-forcing"]
        assert (mine.title, mine.sizes) == ("My own", (Size(480, 832),))
        assert (mine.generation.window, mine.generation.sink) == (12, 3)
        assert mine.generation.timesteps == base.generation.timesteps
        assert (mine.weights.repo, mine.weights.path) == (base.weights.repo, "mine.pt")
        assert list(list_presets()) == [*PRESETS, "mine"]
        assert hash(mine)

    def test_a_folder_gets_a_name_and_other_settings(self, write, folder, copy):
        write({"boats": {"like": "./copy", "generation": {"window": 6}}})
        assert get_preset("boats").folder == copy
        assert load("boats", device="cpu").generation.window == 6

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ("{", "cannot be read"),
            ("[]", "expected a JSON object"),
            ({"mine": {"title": "x"}}, "'mine' needs \"like\""),
            ({"mine": {"like": "./nowhere"}}, "there is no folder"),
            ({"mine": {"like": "pocket", "titel": "x"}}, "'mine': titel: unexpected"),
            ({"mine": {"like": "pocket", "modes": ["sound"]}}, "'mine': modes.0: input should be"),
            (
                {"mine": {"like": "pocket", "generation": {"sink": 99}}},
                "'mine': generation: .*sink",
            ),
            ({"mine": {"like": "pocket", "weights": {"repo": 3}}}, "'mine': weights"),
            ({"pocket": {"like": "pocket"}}, "there is a preset 'pocket' already"),
        ],
    )
    def test_mistakes_are_one_sentence(self, write, entries, message):
        file = write(entries)
        with pytest.raises(PresetError, match=message) as caught:
            list_presets()
        assert str(file.parent) in str(caught.value)
        assert get_preset("pocket") is PRESETS["pocket"], "others can still be used"


class TestInstalledPackage:
    @pytest.fixture
    def install(self, tmp_path, monkeypatch):
        def install(target: str, source: str) -> None:
            (tmp_path / "boats.py").write_text(source)
            info = tmp_path / "boats-1.dist-info"
            info.mkdir()
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: boats\nVersion: 1\n")
            (info / "entry_points.txt").write_text(f"[causvid.presets]\nboats = {target}\n")
            monkeypatch.syspath_prepend(tmp_path)
            monkeypatch.delitem(sys.modules, "boats", raising=False)

        return install

    def test_its_preset_is_found(self, install):
        install(
            "boats:BOATS",
            "import dataclasses\n"
            "from causvid import PRESETS\n"
            "BOATS = dataclasses.replace(PRESETS['self-forcing'], name='boats')\n",
        )
        assert get_preset("boats").base == PRESETS["self-forcing"].base
        assert "boats" in list_presets()

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("BOATS = 3\n", "boats:BOATS is offered as the preset 'boats'; expected a Preset"),
            ("import nowhere\n", "'boats' of boats:BOATS cannot be loaded: No module named"),
        ],
    )
    def test_one_that_is_broken_is_named(self, install, source, message):
        install("boats:BOATS", source)
        with pytest.raises(PresetError, match=message):
            get_preset("boats")
        assert get_preset("pocket") is PRESETS["pocket"]
