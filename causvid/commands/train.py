"""`python -m causvid train`: train a stage of a recipe, or go on with it where it stopped.

The stages, in the order of the pocket recipe; every one reads what the ones before it left in the
run's folder. `causvid train STAGE --help` lists its settings, `--show` prints them resolved.

The same command runs in one process, in several (`accelerate launch --multi_gpu --num_processes 2
-m causvid train …`, on a CPU, too: `--cpu` would start one) and on GPUs with sharded models
(`accelerate launch --config_file examples/fsdp.yaml -m causvid train …`).

On a CPU set OMP_NUM_THREADS=1: two processes of one thread do more work than one of two. With
glibc, MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 saves another fifth:
activations are then taken from memory that the process already holds.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from causvid.training.changes import changed, descriptions, hints, is_group, optional, read, written
from causvid.training.recipes import INSTRUMENTS, RECIPES, load_recipe


class Stage(NamedTuple):
    """A subcommand.

    Args:
        settings: the recipe's field that has its settings, if it has some.
        takes: its options besides those settings and `--run`.
    """

    summary: str
    settings: str | None
    takes: tuple[str, ...]


_SOURCE = ("recipe", "base", "start-from")
_LOOP = ("seed", "precision", "name", "stop", "seconds", "checkpoint-seconds", "tracker")
_SHOWN = (*_SOURCE, *_LOOP, "sheet", "compile")

STAGES = {
    "codec": Stage("fit the autoencoder in closed form", "codec", ("recipe", "seed", "videos")),
    "decoder": Stage(
        "train the autoencoder's decoder", "decoder", (*_SOURCE, *_LOOP, "student", "videos")
    ),
    "data": Stage(
        "encode captioned clips: rendered ones, or videos",
        "data",
        (*_SOURCE, "shards", "videos", "workers"),
    ),
    "teacher": Stage("flow matching, bidirectional", "teacher", _SHOWN),
    "causal": Stage(
        "the teacher's weights under the block-causal mask, on clips",
        "causal",
        _SHOWN,
    ),
    "consistency": Stage(
        "a few-step student of the causal model, by one step of it at a time",
        "consistency",
        _SHOWN,
    ),
    "trajectories": Stage(
        "what the teacher makes on its way from noise, for the next stage",
        "trajectories",
        (*_SOURCE, "seed", "precision", "shards", "prompts"),
    ),
    "ode": Stage(
        "causal regression on the trajectories; needs no clips",
        "ode",
        (*_SHOWN, "student"),
    ),
    "forcing": Stage(
        "the next chunk of clips from their true past (teacher forcing)",
        "forcing",
        (*_SHOWN, "student"),
    ),
    "dmd": Stage(
        "asymmetric distribution matching on the student's own rollouts",
        "dmd",
        (*_SHOWN, "student", "prompts"),
    ),
    "export": Stage(
        "write a diffusers folder with student, teacher, codec and text encoder",
        None,
        (*_SOURCE, "student", "out"),
    ),
    "judge": Stage(
        "the judge of `causvid evaluate`; needs no other stage", "judge", (*_LOOP, "out")
    ),
    "segmenter": Stage(
        "what marks and counts things in `causvid evaluate`; needs no other stage",
        "segmenter",
        (*_LOOP, "out"),
    ),
    "plan": Stage(
        "memory and operations of every stage, without running it",
        None,
        ("recipe", "processes", "json"),
    ),
    "curves": Stage("draw the logs of stages", None, ("logs", "out", "against")),
}


def _folder(**options: Any) -> dict[str, Any]:
    return {"type": Path, "metavar": "FOLDER", **options}


def _model(**options: Any) -> dict[str, Any]:
    return {"metavar": "MODEL", **options}


OPTIONS: dict[str, dict[str, Any]] = {
    "recipe": {
        "default": "pocket",
        "metavar": "RECIPE",
        "help": f"{', '.join(RECIPES)}, or a JSON file of changes to one (default: pocket)",
    },
    "base": {
        "metavar": "MODEL",
        "help": "wan-1.3b: a folder or Hub repository in diffusers' layout that has teacher, codec "
        "and text encoder (default: Wan 2.1 1.3B)",
    },
    "start-from": _model(
        help="an exported model (a folder, a preset's name, a Hub id) that stands in for stages "
        "which the run does not have"
    ),
    "seed": {"type": int, "default": 0, "help": "of everything random (default: 0)"},
    "precision": {
        "choices": ("auto", "no", "bf16"),
        "default": "auto",
        "help": "of arithmetic: bf16, or float32 with `no` (default: as the device computes best)",
    },
    "name": {"help": "the stage's folder in the run, for comparisons (default: its own name)"},
    "stop": {"type": int, "metavar": "STEP", "help": "pause before this step"},
    "seconds": {
        "type": float,
        "help": "train for so long, in place of the recipe's steps; learning rates follow the time",
    },
    "checkpoint-seconds": {
        "type": float,
        "default": 300.0,
        "help": "between checkpoints (default: 300)",
    },
    "tracker": {
        "choices": ("tensorboard", "trackio"),
        "help": "where losses are shown as they come, beside the stage's log.jsonl and curves.png",
    },
    "sheet": {
        "type": Path,
        "metavar": "FILE",
        "help": "prompts, one a line, that are drawn at every checkpoint: the stage's sheet.png",
    },
    "compile": {"action": "store_true", "help": "compile the layers that see whole clips"},
    "shards": {"type": int, "default": 12, "help": "how many there shall be (default: 12)"},
    "workers": {
        "type": int,
        "default": 1,
        "help": "processes that render, each of one thread (default: 1)",
    },
    "videos": _folder(help="videos with captions: NAME.mp4 and NAME.txt, one caption a line"),
    "prompts": {
        "type": Path,
        "metavar": "FILE",
        "help": "captions, one a line (default: those of the run's clips)",
    },
    "student": {
        "metavar": "STAGE",
        "help": "the stage (or --name) whose student is taken (default: the last one before this)",
    },
    "out": {"type": Path, "help": "where to (default: in the run; judge, segmenter: required)"},
    "processes": {"type": int, "default": 64, "help": "on how many devices (default: 64)"},
    "json": {"action": "store_true", "help": "one JSON object"},
    "logs": _folder(
        nargs="+",
        help="stage folders to draw together, such as those of several runs (default: every stage "
        "of --run by itself)",
    ),
    "against": {
        "choices": ("step", "seconds", "cpu_seconds"),
        "default": "step",
        "help": "what runs to the right (default: step)",
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A subcommand for every stage, its settings as options."""
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for name, stage in STAGES.items():
        own = stages.add_parser(
            name, help=stage.summary, description=stage.summary, allow_abbrev=False
        )
        if name != "plan":
            own.add_argument(
                "--run",
                type=Path,
                default=Path("runs/pocket"),
                metavar="FOLDER",
                help="the run's folder (default: runs/pocket)",
            )
        for option in stage.takes:
            keywords = dict(OPTIONS[option])
            if option == "out" and name in INSTRUMENTS:
                keywords["required"] = True
            own.add_argument(f"--{option}", **keywords)
        if stage.settings is not None:
            own.add_argument("--show", action="store_true", help="print the settings and stop")
            group = own.add_argument_group("settings", "defaults are the recipe's")
            add_settings(group, _settings_of(stage.settings))


def _settings_of(part: str) -> dict[str, Any]:
    """Recipe → its settings of a stage."""
    if part in INSTRUMENTS:
        return {"": INSTRUMENTS[part]}
    values = {name: getattr(recipe, part) for name, recipe in RECIPES.items()}
    return {name: value for name, value in values.items() if value is not None}


def add_settings(
    group: argparse._ArgumentGroup, settings: Mapping[str, Any], prefix: str = ""
) -> None:
    """An option for every field, nested ones with dots, with every recipe's value in its help."""
    kind: Any = type(next(iter(settings.values())))
    for field in fields(kind):
        hint, path = hints(kind)[field.name], f"{prefix}{field.name}"
        values = {recipe: getattr(each, field.name) for recipe, each in settings.items()}
        if is_group(hint):
            inner = {recipe: value for recipe, value in values.items() if value is not None}
            if inner:  # some recipe has that part
                add_settings(group, inner, f"{path}.")
            continue
        shown = {recipe: written(value) for recipe, value in values.items()}
        default = next(iter(shown.values()))
        if len(set(shown.values())) > 1:
            default = "; ".join(f"{recipe}: {value}" for recipe, value in shown.items())
        text = f"{descriptions(kind)[field.name].rstrip('.')} (default: {default})"
        optional_value: dict[str, Any] = {"nargs": "?", "const": True} if hint is bool else {}
        group.add_argument(
            f"--{path.replace('_', '-')}",
            dest=f"{_SETTING}{path}",
            type=_reader(hint),
            default=argparse.SUPPRESS,
            metavar=_form(hint),
            help=text.replace("%", "%%"),
            **optional_value,
        )


_SETTING = "settings."


def _reader(hint: Any) -> Any:
    def parse(text: str) -> Any:
        try:
            return read(hint, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def _form(hint: Any) -> str:
    """How a value is written, for people."""
    kind = optional(hint)
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    if get_origin(kind) is tuple:
        return f"{_form(get_args(kind)[0])},…"
    return {bool: "true|false", float: "X", int: "N"}.get(kind, kind.__name__.upper())


def main(args: argparse.Namespace) -> None:
    """Run the stage that `args` names.

    Raises:
        ValueError: if what an earlier stage leaves is not there.
    """
    stage = STAGES[args.stage]
    options = {name.replace("-", "_") for name in stage.takes}
    values = {name: getattr(args, name) for name in options}
    recipe = load_recipe(values.pop("recipe", "pocket"))
    settings: list[Any] = []
    if stage.settings is not None:
        settings = [resolved(args, recipe)]
        if args.show:
            shown = {stage.settings: asdict(settings[0])}
            if "recipe" in options:
                shown = {"recipe": args.recipe, "generation": recipe.generation.to_dict(), **shown}
            print(json.dumps(shown, indent=2))
            return
    if args.stage == "plan":
        from causvid.training.plan import print_plan

        print_plan(args.recipe, recipe, processes=args.processes, as_json=args.json)
        return

    from causvid.training import launch
    from causvid.training.run import Run

    if args.stage == "curves":
        launch.curves(args.run, **values)
        return
    known = {field.name for field in fields(Run)}
    own = {name: value for name, value in values.items() if name in known}
    rest = {name: value for name, value in values.items() if name not in known}
    getattr(launch, args.stage)(Run(args.run, recipe, **own), *settings, **rest)


def resolved(args: argparse.Namespace, recipe: Any) -> Any:
    """The recipe's settings of a stage with the changes of options."""
    part = STAGES[args.stage].settings
    settings = INSTRUMENTS.get(part or "") or getattr(recipe, part or "")
    if settings is None:
        raise ValueError(
            f"the recipe {args.recipe} has no stage {args.stage}: its base comes with a codec"
        )
    changes: dict[str, Any] = {}
    for name, value in vars(args).items():
        if name.startswith(_SETTING):
            *path, last = name.removeprefix(_SETTING).split(".")
            inner = changes
            for step in path:
                inner = inner.setdefault(step, {})
            inner[last] = value
    return changed(settings, changes)
