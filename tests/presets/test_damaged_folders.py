"""Damages of a model's folder: each is one sentence that names the file, before a frame is made."""

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError
from safetensors.torch import load_file, save_file

from causvid.__main__ import main
from causvid.model.weight_files import CHECKSUMS, verify_checksums, write_checksums
from causvid.presets.catalogue import POCKET
from causvid.presets.loading import load
from causvid.presets.preset import PresetError
from causvid.serving.models import Models
from causvid.serving.settings import Settings
from tests.appserver import running

ROOT = Path(__file__).parents[2]
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
WORDS = "tokenizer/tokenizer.json"
INDEX = "model_index.json"
WEIGHTS = (TRANSFORMER, VAE, TEXT)
SETTINGS = (INDEX, "transformer/config.json", "vae/config.json", "text_encoder/config.json", WORDS)

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7877000\n"
PAGE = b"<!DOCTYPE html><html><title>429 Too Many Requests</title></html>"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of pocket's folder without checksums, which would notice everything first."""
    for name in (*WEIGHTS, *SETTINGS, "tokenizer/tokenizer_config.json", "README.md"):
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(POCKET.folder / name, tmp_path / "copy" / name)
    return tmp_path / "copy"


Damage = Callable[[Path], None]


def cut(share: float) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def written(data: bytes) -> Damage:
    return lambda path: path.write_bytes(data)


def begun(path: Path) -> None:
    path.rename(path.with_name(path.name + ".incomplete"))


def renamed(path: Path) -> None:
    path.rename(path.with_name("weights.safetensors"))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_loose_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("../../blobs/0000")


def pickled(path: Path) -> None:
    """As `save_pretrained(safe_serialization=False)` wrote it, with code that would run."""
    path.unlink()
    path.with_suffix(".bin").write_bytes(pickle.dumps(Poison()))


def pickled_inside(path: Path) -> None:
    path.write_bytes(pickle.dumps(Poison()))


def zipped(path: Path) -> None:
    state = load_file(path)
    path.unlink()  # it is still mapped
    torch.save(state, path)


class Poison:
    def __reduce__(self):
        return os.mkdir, ("poisoned",)


def header_damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[9] = 0
    path.write_bytes(data)


def header_too_long(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 90_000_000) + path.read_bytes()[8:])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(100))


def tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Damage:
    def damage(path: Path) -> None:
        state = load_file(path)
        change(state)
        path.unlink()  # it is still mapped
        save_file(state, path, {"format": "pt"})

    return damage


def first(state: dict[str, torch.Tensor]) -> str:
    return min(key for key, value in state.items() if value.ndim > 1)


def spoilt(number: float) -> Damage:
    def change(state: dict[str, torch.Tensor]) -> None:
        state[first(state)].view(-1)[3] = number

    return tensors(change)


@tensors
def one_missing(state: dict[str, torch.Tensor]) -> None:
    del state[first(state)]


@tensors
def one_more(state: dict[str, torch.Tensor]) -> None:
    state["another.weight"] = torch.zeros(3)


@tensors
def one_narrower(state: dict[str, torch.Tensor]) -> None:
    state[first(state)] = state[first(state)][:-1].clone()


@tensors
def other_names(state: dict[str, torch.Tensor]) -> None:
    renamed_ = {f"net.{key}": value for key, value in state.items()}
    state.clear()
    state.update(renamed_)


def settings(**changes: object) -> Damage:
    def damage(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def shards_missing(path: Path) -> None:
    """An index whose second shard was never copied."""
    state = load_file(path)
    names = sorted(state)
    shard = path.with_name("model-00001-of-00002.safetensors")
    save_file({name: state[name] for name in names[:3]}, shard)
    listed = dict.fromkeys(names[:3], shard.name) | dict.fromkeys(
        names[3:], "model-00002-of-00002.safetensors"
    )
    index = {"metadata": {}, "weight_map": listed}
    path.with_name(path.name + ".index.json").write_text(json.dumps(index))
    path.unlink()


def shards_elsewhere(path: Path) -> None:
    index = {"metadata": {}, "weight_map": {"a": "../../secret.safetensors"}}
    path.with_name(path.name + ".index.json").write_text(json.dumps(index))


def index_of_nothing(path: Path) -> None:
    path.with_name(path.name + ".index.json").write_text("{}")


def words_beyond_the_encoder(path: Path) -> None:
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"]["zebra"] = 9999
    for number in range(200):
        tokenizer["model"]["vocab"][f"zebra{number}"] = 1000 + number
    path.write_text(json.dumps(tokenizer))


def model_damages() -> list:
    every = [
        *((name, cut(0.0), "is empty") for name in (*WEIGHTS, *SETTINGS)),
        *((name, Path.unlink, "there is no file") for name in (*WEIGHTS, *SETTINGS[1:])),
        (INDEX, Path.unlink, "holds no model_index.json"),
        *((name, written(LFS), "is a Git LFS pointer.*git lfs pull") for name in WEIGHTS),
        *((name, written(LFS), "is a Git LFS pointer") for name in SETTINGS),
        *((name, begun, r"only .*\.incomplete, a download that was not f") for name in WEIGHTS),
        *((name, cut(0.5), "incomplete: .* bytes are there of") for name in WEIGHTS),
        *((name, cut(0.5), "damaged") for name in SETTINGS),
        *((name, written(b"[]"), "holds a list") for name in SETTINGS),
        *((name, written(b"\xff\xfe{\x00"), "damaged") for name in SETTINGS),
        *((name, spoilt(float("nan")), "NaN or infinite") for name in WEIGHTS),
        *((name, one_missing, "1 missing") for name in (TRANSFORMER, VAE)),
        *((name, one_narrower, "1 of another shape") for name in WEIGHTS),
        *((name, renamed, r"but weights\.safetensors: .*rename it") for name in WEIGHTS),
        *((name, pickled, r"\.bin is a pickle.*convert it") for name in WEIGHTS),
        (TEXT, one_missing, "missing"),
        (TRANSFORMER, spoilt(float("inf")), "NaN or infinite"),
        (TRANSFORMER, cut(0.99999), "incomplete"),
        (TRANSFORMER, cut(0.0001), "incomplete"),
        (TRANSFORMER, written(bytes(1000)), "holds only zeros"),
        (TRANSFORMER, written(PAGE), "is a web page"),
        (TRANSFORMER, written(b"hello " * 99), "not in a format for tensors"),
        (TRANSFORMER, written(b"GGUF\x03" + bytes(99)), "is a GGUF file"),
        (TRANSFORMER, written(b"{}"), "is JSON"),
        (TRANSFORMER, pickled_inside, "is a pickle"),
        (TRANSFORMER, zipped, "is a zip archive"),
        (TRANSFORMER, header_damaged, "is damaged"),
        (TRANSFORMER, header_too_long, "incomplete"),
        (TRANSFORMER, longer, "is damaged"),
        (TRANSFORMER, one_more, "1 left over: another.weight"),
        (TRANSFORMER, other_names, "missing"),
        (TRANSFORMER, a_folder, "is a folder"),
        (TRANSFORMER, a_loose_link, "there is no file"),
        (VAE, shards_missing, "there is no file .*00002-of-00002"),
        (TEXT, shards_missing, "there is no file .*00002-of-00002"),
        (VAE, shards_elsewhere, "outside of its folder"),
        (VAE, index_of_nothing, "lists no shards"),
        ("transformer/config.json", settings(num_layers=7), "missing: blocks.6"),
        ("transformer/config.json", settings(num_layers="six"), "describes no model"),
        ("transformer/config.json", settings(patch_size=None), "describes no model"),
        ("transformer/config.json", settings(_class_name="UNet"), "its _class_name is 'UNet'"),
        ("transformer/config.json", settings(text_dim=64), "shape"),
        ("text_encoder/config.json", settings(model_type="bert"), "its model_type is 'bert'"),
        ("text_encoder/config.json", settings(d_model=64), "of another shape"),
        ("text_encoder/config.json", settings(num_layers=-1), "left over"),
        ("vae/config.json", settings(_class_name="AutoencoderKLWan"), "says that it is a Tiny"),
        ("vae/config.json", settings(encoder_channels=7), "describes no model"),
        (INDEX, settings(vae=["os", "system"]), r"names os\.system as its vae"),
        (INDEX, settings(transformer=None), "as its transformer"),
        (INDEX, settings(tokenizer="words"), "as its tokenizer"),
        (INDEX, settings(tiny_vae=["causvid", "TinyAutoencoder"]), "tiny_vae"),
        (INDEX, settings(_class_name="WanPipeline"), "holds a WanPipeline"),
        (INDEX, settings(generation=None), "does not say how"),
        (INDEX, settings(generation={"window": "seven"}), "does not say how"),
        (INDEX, settings(generation=[1, 2]), "does not say how"),
        (WORDS, settings(model={"type": "Magic"}), "damaged"),
        (WORDS, settings(model=None), "damaged"),
        (WORDS, words_beyond_the_encoder, "the text encoder knows 136"),
        ("tokenizer/tokenizer_config.json", written(b"{"), "damaged"),
        ("tokenizer/tokenizer_config.json", settings(pad_token=[1]), "damaged"),
    ]
    return [
        pytest.param(*case, id=f"{number}-{case[0].replace('/', '-')}")
        for number, case in enumerate(every)
    ]


@pytest.mark.parametrize(("name", "damage", "said"), model_damages())
def test_a_damage_is_one_sentence_that_names_the_file(folder, monkeypatch, name, damage, said):
    monkeypatch.chdir(folder.parent)
    damage(folder / name)
    with pytest.raises(PresetError, match=said) as caught:
        load(folder, device="cpu")
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 800
    assert str(folder / name).rpartition("/")[0] in sentence, "the file, or its folder"
    assert not (folder.parent / "poisoned").exists(), "a pickle was run"


CARDS = {"broken": b"---\nlicense: [\n---\n", "bytes": b"\xff\xfe\x00", "empty": b""}


@pytest.mark.parametrize("card", CARDS)
def test_a_card_is_for_people_and_damages_nothing(folder, card):
    (folder / "README.md").write_bytes(CARDS[card])
    assert load(folder, device="cpu").generation == POCKET.generation


def test_the_copy_itself_is_whole(folder):
    """Or the damages above would prove nothing."""
    load(folder, device="cpu")


@pytest.mark.parametrize("name", [*WEIGHTS, *SETTINGS])
def test_a_flipped_bit_is_noticed_where_there_are_checksums(folder, name):
    write_checksums(folder)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(PresetError, match=f"{name} is (not what it was|damaged)"):
        load(folder, device="cpu")


def test_checksums_themselves_can_be_damaged(folder):
    (folder / CHECKSUMS).write_bytes(b"hello\n")
    with pytest.raises(PresetError, match="SHA256SUMS is damaged"):
        load(folder, device="cpu")


def test_pockets_own_folder_has_checksums_that_hold():
    """After new weights: `weight_files.write_checksums(folder)`, or `train export`."""
    listed = [line.split("  ")[1] for line in (POCKET.folder / CHECKSUMS).read_text().splitlines()]
    stored = [p for p in POCKET.folder.rglob("*") if p.suffix in (".json", ".safetensors")]
    assert sorted(listed) == sorted(p.relative_to(POCKET.folder).as_posix() for p in stored)
    verify_checksums(POCKET.folder, {name.partition("/")[0] for name in listed})


def test_a_saved_pipeline_has_checksums(folder, tmp_path):
    load(folder, device="cpu").save_pretrained(tmp_path / "saved")
    verify_checksums(tmp_path / "saved", ["transformer", "vae", "text_encoder", "tokenizer"])
    assert TRANSFORMER in (tmp_path / "saved" / CHECKSUMS).read_text()


@pytest.mark.parametrize("name", [TRANSFORMER, "vae/config.json", WORDS])
def test_generate_says_it_in_one_line(folder, capsys, tmp_path, name):
    cut(0.5)(folder / name)
    out = tmp_path / "a.mp4"
    status = main(["generate", "a red car", "--model", str(folder), "--out", str(out)])
    said = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and not out.exists()
    assert [line for line in said if name in line] == [said[-1]]
    assert "Traceback" not in "".join(said)


@pytest.mark.slow
@pytest.mark.parametrize("name", [TRANSFORMER, "text_encoder/config.json", WORDS])
def test_the_server_says_it_at_the_start(folder, name):
    cut(0.5)(folder / name)
    ended = subprocess.run(
        [sys.executable, ROOT / "app.py"],
        env={**os.environ, "CAUSVID_MODEL": str(folder), "CAUSVID_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stdout + ended.stderr
    assert name in ended.stderr.strip().splitlines()[-1]


def test_a_damaged_model_costs_a_whole_one_nothing(folder):
    """A visitor may choose any that is offered."""
    models = Models(Settings(model="pocket", models=("pocket", str(folder)), device="cpu"))
    pipeline, _ = models.open("pocket")
    cut(0.5)(folder / TRANSFORMER)
    with pytest.raises(PresetError, match="is damaged or incomplete"):
        models.open("copy")
    assert models.ready and models.open("pocket")[0] is pipeline


@pytest.mark.slow
@pytest.mark.parametrize("name", [TRANSFORMER, VAE, TEXT])
def test_an_api_call_for_a_damaged_model_is_answered_in_a_sentence(folder, tmp_path, caplog, name):
    with running(tmp_path / "app", "pocket", models=("pocket", str(folder))) as app:
        spoilt(float("nan"))(folder / name)
        client = Client(app.url, verbose=False, download_files=False)
        with pytest.raises(AppError, match=f"{name} is damaged: .* NaN or infinite"):
            client.predict("a red car", model="copy", seconds=0.5, api_name="/text_to_video")
        client.predict("a red car", seconds=0.5, api_name="/text_to_video")  # pocket goes on
        assert httpx.get(f"{app.url}/healthz").status_code == 200
    assert "Traceback" not in caplog.text and not [it for it in caplog.records if it.exc_info]
