"""Adherence: how often a clip shows what its prompt asked for."""

from collections import Counter
from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from PIL import Image

from causvid.evaluate.measurement import Figures, Measurement, Part, Table, mean, percent
from causvid.evaluate.session import SHEET_ROWS, MeasuredClip, Session
from causvid.world import ATTRIBUTES
from causvid.world.samples import SheetRow, contact_sheet

_MOST_MISTAKES = 8  # kinds that the table's note names


def adherence(clips: Sequence[MeasuredClip]) -> Figures:
    """Shares of at least one clip that are judged as asked.

    `mean` is over attributes, `unseen` and `seen` over clips of combinations that training never
    and did sample, `complete` counts clips with every attribute right. `misread` counts what was
    asked for and taken for something else, most often first.
    """
    attributes = {name: mean(clip.right[name] for clip in clips) for name in ATTRIBUTES}
    return {
        "clips": len(clips),
        "attributes": attributes,
        "mean": mean(attributes.values()),
        "unseen": _over_all([clip for clip in clips if clip.case.unseen]),
        "seen": _over_all([clip for clip in clips if not clip.case.unseen]),
        "complete": mean(all(clip.right.values()) for clip in clips),
        "misread": dict(Counter(_mistakes(clips)).most_common()),
    }


def _mistakes(clips: Sequence[MeasuredClip]) -> Iterator[str]:
    for clip in clips:
        for name, right in clip.right.items():
            if not right:
                yield f"{getattr(clip.case.scene, name)} as {clip.judgement.values[name]}"


def _over_all(clips: Sequence[MeasuredClip]) -> float | None:
    return mean(right for clip in clips for right in clip.right.values()) if clips else None


def _run(session: Session) -> Part:
    """Of the judged subjects, and of reconstructions: whether the codec can show what is asked."""
    measured = {**session.clips, "reconstructed": session.reconstructed}
    return Part(
        {name: adherence(clips) for name, clips in measured.items()},
        {name: _sheet(clips) for name, clips in measured.items()},
    )


def _sheet(clips: Sequence[MeasuredClip]) -> Image.Image:
    rows = []
    for clip in clips[:SHEET_ROWS]:
        wrong = [clip.judgement.values[name] for name, right in clip.right.items() if not right]
        fault = f"judged as {', '.join(wrong)}" if wrong else ""
        rows.append(SheetRow(clip.case.prompt, clip.strip, fault))
    return contact_sheet(rows, columns=2)


def _table(figures: Figures) -> Table:
    columns = ("mean", "unseen", "seen", "complete")
    rows = [
        (
            f"{name} ({of['clips']})",
            *(percent(of["attributes"][attribute]) for attribute in ATTRIBUTES),
            *(percent(of[column]) for column in columns),
        )
        for name, of in figures.items()
    ]
    notes = []
    for name, of in figures.items():
        if mistakes := list(of["misread"].items())[:_MOST_MISTAKES]:
            notes.append(f"{name} mistaken: {', '.join(f'{what} {n}' for what, n in mistakes)}.")
    header = ("clips judged as asked", *ATTRIBUTES, *columns)
    return Table("Adherence", header, rows, "\n".join(notes))


def _plot(figure: Figure, figures: Figures) -> None:
    axes = figure.add_subplot(ylim=(0, 1.02), title="adherence")
    names = [*ATTRIBUTES, "mean"]
    width = 0.8 / len(figures)
    for index, (subject, of) in enumerate(figures.items()):
        shares = [*(of["attributes"][name] for name in ATTRIBUTES), of["mean"]]
        places = [place + (index - (len(figures) - 1) / 2) * width for place in range(len(names))]
        bars = axes.bar(places, shares, width, label=subject)
        axes.bar_label(bars, [f"{100 * share:.0f}" for share in shares], fontsize=8)
    axes.set_xticks(range(len(names)), names)
    axes.legend(loc="lower left")


ADHERENCE = Measurement("adherence", _run, _table, _plot)
