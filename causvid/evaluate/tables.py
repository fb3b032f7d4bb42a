"""The figures of each part as a table, to be printed or put into a README."""

from collections.abc import Callable, Sequence
from typing import Any

from causvid.evaluate.targets import Verdict
from causvid.table import Table
from causvid.world import ATTRIBUTES


def table_of(part: str, figures: dict[str, Any]) -> Table:
    """The table of a part's figures, as its JSON has them."""
    return _TABLES[part](figures)


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Targets, and whether they are met."""
    rows = (
        (
            verdict.target.name,
            verdict.target.wanted,
            f"{verdict.value:.3f}",
            "yes" if verdict.kept else "no",
        )
        for verdict in verdicts
    )
    return Table("Targets", ("target", "wanted", "measured", "met"), tuple(rows))


def _reader(figures: dict[str, Any]) -> Table:
    rows = (
        ("one window", *(_share(figures["windows"][name]) for name in ATTRIBUTES)),
        ("whole clip", *(_share(figures["whole"][name]) for name in ATTRIBUTES)),
    )
    title = f"The reader, on {figures['clips']} rendered clips of held-out scenes"
    return Table(title, ("read right", *ATTRIBUTES), rows)


def _codec(figures: dict[str, Any]) -> Table:
    title = f"The codec, on {figures['clips']} rendered clips of held-out scenes"
    header = ("reconstructions", "PSNR, dB", "seam", "sharpness")
    row = (f"{figures['psnr']:.2f}", _number(figures["seam"]), _number(figures["sharpness"]))
    note = "Seam and sharpness over those of the clips."
    return Table(title, header, (("as viewers see them", *row),), note)


def _adherence(figures: dict[str, Any]) -> Table:
    columns = ("mean", "unseen", "seen", "complete")
    rows = tuple(
        (
            f"{name} ({of['clips']})",
            *(_share(of["attributes"][attribute]) for attribute in ATTRIBUTES),
            *(_share(of[column]) for column in columns),
        )
        for name, of in figures.items()
    )
    header = ("clips that read as asked", *ATTRIBUTES, *columns)
    misread = (
        f"{name} misread: " + ", ".join(f"{what} {n}" for what, n in list(wrong.items())[:8]) + "."
        for name, wrong in ((name, of["misread"]) for name, of in figures.items())
        if wrong
    )
    return Table("Adherence", header, rows, "\n".join(misread))


def _pictures(figures: dict[str, Any]) -> Table:
    columns = (
        "frechet_looks",
        "frechet_motion",
        "seam",
        "sharpness",
        "saturation",
        "contrast",
        "chunk_flicker",
        "latent_std",
    )
    header = ("over rendered clips", *(column.replace("_", " ") for column in columns))
    rows = tuple((name, *(_number(of[c]) for c in columns)) for name, of in figures.items())
    return Table("Pictures", header, rows)


def _motion(figures: dict[str, Any]) -> Table:
    spans = len(next(iter(figures.values()))["spans"])
    header = ("half seconds that move as asked", *(f"to {2 * n} s" for n in range(1, spans + 1)))
    rows = tuple(
        (
            f"{name} ({of['streams']})",
            *(_share(share) for share in of["spans"]),
            _share(of["within"]),
            _share(of["across"]),
        )
        for name, of in figures.items()
    )
    note = "After two seconds the window rolls; from there on within a chunk, and where one begins."
    return Table("Motion", (*header, "within chunks", "across"), rows, note)


def _switch(figures: dict[str, Any]) -> Table:
    header = ("hand-over", "in 2 s", "… every half", "median s", "9 in 10, s", "kept")
    counts = sorted({count for of in figures.values() for count in of["by_changes"]})
    rows = tuple(
        (
            f"{name} ({of['switches']})",
            _share(of["in_time"]),
            _share(of.get("briefly_in_time")),
            _number(of["median"]),
            _number(of["late"]),
            _share(of["kept"]),
            *(_share(of["by_changes"].get(count)) for count in counts),
            *(_share(of["attributes_in_time"].get(name)) for name in ATTRIBUTES),
        )
        for name, of in figures.items()
    )
    header += (*(f"{count} changed" for count in counts), *ATTRIBUTES)
    return Table(
        "Prompt switches",
        header,
        rows,
        "Motions are read from a second each; “every half”: from every half second by itself.",
    )


def _image(figures: dict[str, Any]) -> Table:
    header = (f"{figures['clips']} clips", "made", "rendered")
    rows = [("first frame to the picture, dB", _number(figures["psnr"]), "")]
    for frame, made in figures["later"].items():
        real = figures["real_later"][frame]
        rows.append((f"frame {frame} to the picture, dB", _number(made), _number(real)))
    rows.append(("jump to the second frame", _number(figures["jump"]), "1.000"))
    rows.append(("adherence", _share(figures["adherence"]), ""))
    return Table("Image to video", header, tuple(rows))


def _video(figures: dict[str, Any]) -> Table:
    rows = tuple(
        (
            f"{strength} ({of['clips']})",
            _share(of["prompt"]),
            _share(of["source"]),
            _share(of["kept"]),
            _number(of["psnr"]),
        )
        for strength, of in figures.items()
    )
    header = ("strength", "as the prompt", "as the source", "what both say", "PSNR, dB")
    return Table("Video to video", header, rows)


def _drift(figures: dict[str, Any]) -> Table:
    looks = ("saturation", "contrast", "sharpness")
    rows = tuple(
        (
            str(number),
            *(_share(minute["attributes"][name]) for name in ATTRIBUTES),
            _share(minute["adherence"]),
            *(_number(minute["looks"][name]) for name in looks),
        )
        for number, minute in enumerate(figures["minutes"], start=1)
    )
    title = f"Drift, mean of {figures['streams']} streams"
    return Table(title, ("minute", *ATTRIBUTES, "mean", *looks), rows)


def _ablations(figures: dict[str, Any]) -> Table:
    header = (
        "student",
        "adherence",
        "Fréchet looks",
        "Fréchet motion",
        "seam",
        "sharpness",
        "after 1 min",
        "… without motion",
        "saturation",
        "contrast",
    )
    rows = tuple(
        (
            name,
            _share(of["adherence"]),
            _number(of["frechet_looks"]),
            _number(of["frechet_motion"]),
            _number(of["seam"]),
            _number(of["sharpness"]),
            _share(of["late"]),
            _share(of["late_seen"]),
            _number(of["saturation"]),
            _number(of["contrast"]),
        )
        for name, of in figures.items()
    )
    note = (
        "Left of “after 1 min” short clips; from there on the last ten of sixty seconds: shares of "
        "windows that read right, and looks over those of the first ten."
    )
    return Table("Ablations, each on the same budget", header, rows, note)


_TABLES: dict[str, Callable[[dict[str, Any]], Table]] = {
    "reader": _reader,
    "codec": _codec,
    "adherence": _adherence,
    "pictures": _pictures,
    "motion": _motion,
    "switch": _switch,
    "image": _image,
    "video": _video,
    "drift": _drift,
    "ablations": _ablations,
}


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
