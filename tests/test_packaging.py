"""What is installed: the same requirements wherever they are written, and a wheel that is whole."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from causvid.resources import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # which pytest brings there


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def required(lines: list[str]) -> set[str]:
    """Requirements in one spelling, without options and comments."""
    found = set()
    for line in lines:
        if line and not line.startswith(("#", "-")):
            it = Requirement(line)
            name = re.sub(r"[-_.]+", "-", it.name).lower()
            found.add(f"{name}{sorted(it.extras)}{it.specifier}")
    return found


def in_file(name: str) -> set[str]:
    return required((ROOT / name).read_text(encoding="utf-8").splitlines())


def test_the_space_installs_the_dependencies_and_the_app():
    it = project()
    assert in_file("requirements.txt") == required(
        it["dependencies"] + it["optional-dependencies"]["app"]
    )


def test_developers_install_all_extras():
    extras = project()["optional-dependencies"]
    assert in_file("requirements-dev.txt") == required(extras["train"] + extras["test"])
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel that is built from the sdist, as on an index."""
    folder = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    sdist = [sys.executable, "-c", "import hatchling.build as b, sys; b.build_sdist(sys.argv[1])"]
    subprocess.run([*sdist, folder], cwd=ROOT, check=True, capture_output=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        assert not [name for name in tar.getnames() if name.endswith((".pyc", ".pyi"))]
    built = [*pip, "--no-build-isolation", "-w", folder, archive]
    subprocess.run(built, cwd=folder, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_a_wheel_holds_weights_judge_gallery_and_page(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    examples = ["examples/gallery", "examples/realtime.html"]
    folders = ["causvid", "assets/pocket", "assets/pocket-2", "assets/report/reader", *examples]
    listing = ["git", "-C", ROOT, "ls-files", *folders]
    tracked = subprocess.check_output(listing, text=True).splitlines()
    inside = {name if name.startswith("causvid/") else f"causvid/{name}" for name in tracked}
    assert inside <= names
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"causvid"}


@pytest.mark.slow
def test_a_working_copy_is_installed_without_what_else_lies_there(tmp_path):
    """Without git, and beside folders that look like packages."""
    copy, listing = tmp_path / "copy", ["git", "-C", ROOT, "ls-files"]
    for name in subprocess.check_output(listing, text=True).splitlines():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    for folder in ("runs", "data", "screenshots"):
        (copy / folder).mkdir()
        (copy / folder / "__init__.py").touch()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    built = [*pip, "--no-build-isolation", "-w", tmp_path, "."]
    subprocess.run(built, cwd=copy, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(path).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"causvid"}
    assert "causvid/assets/pocket/model_index.json" in names


@pytest.mark.slow
def test_an_installed_wheel_finds_its_files_and_has_its_command(wheel, tmp_path):
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps"]
    subprocess.run([*install, "--target", target, wheel], check=True, capture_output=True)
    environment = {"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    def run(*command: str | Path) -> str:
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    program = (
        "from causvid.presets.catalogue import POCKET; from causvid.world.judge import SHIPPED\n"
        "from causvid.ui.gallery import FOLDER; from causvid.ui.files import static\n"
        "print(POCKET.folder, SHIPPED, FOLDER, bool(static('style.css')))"
    )
    *folders, page = run(sys.executable, "-c", program).split()
    assert [Path(folder).is_relative_to(target) for folder in folders] == [True] * 3
    assert page == "True"
    script = target / "bin" / "causvid"
    assert run(script, "generate", "--help").startswith("usage: causvid generate")
    made = run(script, "generate", "a red car drives right in the desert", "--seconds", "1")
    assert made.startswith("video.mp4: ") and (tmp_path / "video.mp4").stat().st_size
