"""What a figure is and how it is drawn: colours, panels, light and dark pages. Nothing here uses pyplot's globals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from doof_ext.report.runs import CONTROL, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # safe for colour-blind readers
CONTROL_COLOUR = "#888888"
_LINES = ("-", "--", "-.")  # dotted is the pretrained policy


@dataclass
class Drawing:
    """One figure.

    Attributes:
        name: Of its files.
        question: What it answers.
        alt: What it shows, in words and numbers.
        size: Width and height in inches.
        draw: Fills a matplotlib Figure of that size.
        missing: Which runs it lacks.
    """

    name: str
    question: str
    caption: str
    alt: str
    size: tuple[float, float]
    draw: Callable[[Figure], None]
    missing: str = ""


def render(drawing: Drawing, path: str | IO[bytes], dark: bool = False, **settings: Any) -> None:
    """Draws a figure into a file.

    Args:
        drawing: The figure.
        path: The file's path, or a file object; then ``settings`` has its format.
        dark: Whether it is for a dark page.
        settings: Of matplotlib's ``savefig``.
    """
    import matplotlib
    from matplotlib.figure import Figure

    ink, paper = ("#e6e6e6", "#16181d") if dark else ("#222222", "#ffffff")
    style: dict[Any, Any] = {
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "svg.hashsalt": "doof_ext",
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "figure.facecolor": paper,
        "axes.facecolor": paper,
        "savefig.facecolor": paper,
        "grid.color": ink,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=drawing.size, layout="constrained")
        drawing.draw(figure)
        if drawing.missing:
            figure.supxlabel(f"missing: {drawing.missing}", fontsize=7, style="italic", wrap=True)
        figure.savefig(path, **settings)


def nothing_to_draw(name: str, question: str, caption: str, missing: str) -> Drawing:
    """The placeholder of a figure without any runs."""

    def draw(figure: Figure) -> None:
        figure.text(0.5, 0.55, "nothing to draw yet", ha="center", va="center", fontsize=11)

    return Drawing(name, question, caption, f"Nothing to draw: {missing}.", (6, 1.6), draw, missing)


def arm_colour(arm: str, arms: Sequence[str]) -> str:
    """The colour of an arm among those of its panel; grey for the controls."""
    doof = [other for other in arms if not other.startswith(CONTROL)]
    return CONTROL_COLOUR if arm.startswith(CONTROL) else COLOURS[doof.index(arm) % len(COLOURS)]


def arm_line(arm: str, arms: Sequence[str]) -> str:
    """The line style of an arm among those of its panel: controls are told apart by it, and arms of one colour."""
    controls, doof = ([of for of in arms if of.startswith(CONTROL) == is_control] for is_control in (True, False))
    turn = controls.index(arm) if arm.startswith(CONTROL) else doof.index(arm) // len(COLOURS)
    return _LINES[turn % len(_LINES)]


def run_label(run: Run) -> str:
    """A run's task as the figures name it."""
    data = {"recipe": " (recipe data)", "unknown": " (data not known yet)"}.get(run.provenance, "")
    return f"{run.paper_name}{data}"


def panels(figure: Figure, count: int, columns: int = 3) -> list[Axes]:
    """Axes for ``count`` panels in at most ``columns`` columns."""
    columns = min(count, columns)
    axes = figure.subplots(-(-count // columns), columns, squeeze=False).flatten()
    for axis in axes[count:]:
        axis.set_visible(False)
    return list(axes[:count])


def grid_size(count: int, width: float = 3.2, height: float = 2.6, columns: int = 3) -> tuple[float, float]:
    """Inches of a figure of ``count`` panels that are ``width`` by ``height`` each."""
    return max(4.2, width * min(count, columns)), height * -(-count // columns) + 0.3
