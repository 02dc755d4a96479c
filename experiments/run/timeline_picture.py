"""What every function of one batch did, and when: a Gantt picture of the record table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from experiments.tools import style
from simulator.records import PHASES, Record

COLOURS = {
    "queue": "#d9d9d9",
    "provisioning": "#8c8c8c",
    "init": "#4d4d4d",
    "parameter_download": style.SKY,
    "wait": "#f5e9a8",
    "input_download": style.BLUE,
    "compute": style.GREEN,
    "upload": style.ORANGE,
    "hand_on": style.RED,
    "gather": style.PURPLE,
}
LABELLED = 70  # instances that still have room for a name each


def bars(records: Iterable[Record]) -> list[tuple[str, str, float, float]]:
    """The picture's data: (instance, phase, start s, end s), instances in the order of their first call."""
    rows = sorted(records, key=lambda row: (row.requested_s, row.layer, row.expert, row.replica))
    return [(row.instance, phase, *row.phases[phase]) for row in rows for phase in PHASES if phase in row.phases]


def draw_timeline(records: Iterable[Record], title: str, path: Path) -> None:
    """Draw the calls of one batch to `path`.png and `path`.svg, a line for each instance."""
    from matplotlib.patches import Patch

    data = bars(records)
    places = {instance: place for place, instance in enumerate(dict.fromkeys(bar[0] for bar in data))}
    figure = style.new_figure(9.0, min(11.0, 1.6 + 0.13 * len(places)))
    axes = figure.subplots()
    for phase, colour in COLOURS.items():
        chosen = [bar for bar in data if bar[1] == phase]
        axes.barh(
            [places[bar[0]] for bar in chosen],
            [bar[3] - bar[2] for bar in chosen],
            left=[bar[2] for bar in chosen],
            color=colour,
            height=0.8,
        )
    if len(places) <= LABELLED:
        axes.set_yticks(list(places.values()), list(places), fontsize=5)
    else:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(places)} instances, by first call")
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("seconds from the start of the batch")
    axes.set_title(title, loc="left", fontsize=10)
    seen = {bar[1] for bar in data}
    handles = [
        Patch(color=colour, label=name.replace("_", " ")) for name, colour in COLOURS.items() if name in seen
    ]
    axes.legend(handles=handles, fontsize=7, loc="upper right", frameon=False)
    style.save(figure, path)
