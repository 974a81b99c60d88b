"""Reliability diagrams as a PNG: the share of correct predictions against their score."""

from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Sequence, Tuple

from spacy_crf_ner.evaluation.calibration import Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_INCHES = (4.8, 6.2)
DPI = 150
COLOR = "#0072B2"  # the blue of Okabe and Ito, which the colour-blind tell from greys
PALE, GREY = "#cfe3f0", "#5f6670"
Z = 1.96  # two-sided, 95 %


def require_matplotlib() -> None:
    """Say how to install matplotlib, an extra of this package, where it is missing.

    RAISES (ValueError): It cannot be imported.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f'matplotlib cannot be imported ({error}); install it with `pip install "spacy-crf-ner[plot]"`'
        ) from error


def draw_reliability(path: Path, panels: Sequence[Tuple[str, Reliability]]) -> None:
    """Draw reliability diagrams side by side, each above a histogram of its scores.

    A bar is the share of correct predictions in a bin. The point on it is at the bin's mean score, and its
    whiskers are the 95 % interval of the share (Wilson's). On the diagonal, scores are what they say.

    path (Path): The PNG file to write.
    panels (Sequence[Tuple[str, Reliability]]): Title and figures of each diagram. The expected calibration error
        and the number of entities are added to the title.
    RAISES (ValueError): There is no panel, or matplotlib is missing.
    RAISES (OSError): The file cannot be written.
    """
    if not panels:
        raise ValueError("no reliability to draw; give one or more panels")
    require_matplotlib()
    # The object API: pyplot would choose a backend and keep the figure for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    width, height = PANEL_INCHES
    layout = ConstrainedLayoutEngine(wspace=0.06)
    figure = Figure(figsize=(width * len(panels), height), dpi=DPI, layout=layout)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(panels), squeeze=False, sharex=True, sharey="row", height_ratios=(4, 1))
    for (title, result), (diagram, histogram) in zip(panels, axes.T):
        diagram.set_title(f"{title}\nECE {result.ece:.2%}, {result.n:,} entities", fontsize=11)
        _draw_diagram(diagram, result)
        _draw_histogram(histogram, result)
    axes[0, 0].set_ylabel("share of entities that are correct")
    axes[1, 0].set_ylabel("entities a bin")
    # Most scores of a good pipe lie near 1: on a linear scale the other bins would not be seen.
    axes[1, 0].set_yscale("log")
    decades = [10**i for i in range(len(str(max(b.count for _, result in panels for b in result.bins))) + 1)]
    axes[1, 0].set_ylim(0.6, decades[-1])
    ticks = decades[:: 1 + len(decades) // 6]
    axes[1, 0].set_yticks(ticks, [f"{n:,}" for n in ticks])
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(panels), frameon=False
    )
    canvas.print_png(str(path))


def wilson_interval(share: float, count: int) -> Tuple[float, float]:
    """The 95 % interval of a share: Wilson (1927), Probable inference, https://doi.org/10.2307/2276774.

    share (float): The share, from 0 to 1.
    count (int): Of how many; at least 1.
    RETURNS (Tuple[float, float]): The lower and the upper end.
    """
    centre = share + Z**2 / (2 * count)
    margin = Z * sqrt(share * (1 - share) / count + (Z / (2 * count)) ** 2)
    scale = 1 + Z**2 / count
    # At 0 and 1 an end is the share itself, which rounding can put on the other side.
    return min((centre - margin) / scale, share), max((centre + margin) / scale, share)


def _draw_diagram(axes: "Axes", result: Reliability) -> None:
    axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015))
    ideal = "perfectly calibrated (below: scores too high)"
    axes.plot((0, 1), (0, 1), color=GREY, linestyle="--", linewidth=1, zorder=2, label=ideal)
    label = "bin: share correct at mean score, 95% interval"
    for b in result.bins:
        if b.accuracy is None or b.mean_score is None:
            continue
        axes.bar(b.lower, b.accuracy, b.upper - b.lower, align="edge", color=PALE, edgecolor="white", zorder=1)
        low, high = wilson_interval(b.accuracy, b.count)
        axes.errorbar(
            b.mean_score,
            b.accuracy,
            yerr=([b.accuracy - low], [high - b.accuracy]),
            fmt="o",
            color=COLOR,
            markersize=5.5,
            elinewidth=1.4,
            zorder=3,
            label=label,
        )
        label = "_"  # one entry in the legend


def _draw_histogram(axes: "Axes", result: Reliability) -> None:
    for b in result.bins:
        if b.count:
            axes.bar(b.lower, b.count, b.upper - b.lower, align="edge", color=COLOR, edgecolor="white")
    axes.set_xlabel("score (probability of the entity)")
