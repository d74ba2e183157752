"""A small picture of how calibration pictures cover the scene."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from modelkit.calibration import Coverage


def plot(covered: Coverage, path: Path) -> None:
    """Write a PNG of 480x360 px: how many pictures each cell of brightness and contrast holds, the chosen as dots."""
    whole, chosen = np.array(covered.population), np.array(covered.chosen)
    figure = Figure(figsize=(4.8, 3.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shown = np.ma.masked_equal(whole, 0)
    drawn = axes.imshow(
        shown,
        origin="lower",
        extent=(0, 256, 0, 128),
        aspect="auto",
        cmap="Blues",
        norm=LogNorm(1, max(2, whole.max())),
    )
    rows, columns = np.nonzero(chosen)
    axes.scatter(
        (columns + 0.5) * 256 / whole.shape[1],
        (rows + 0.5) * 128 / whole.shape[0],
        s=8 + 6 * np.sqrt(chosen[rows, columns]),
        c="tab:red",
        label=f"chosen: {chosen.sum()}",
    )
    axes.set_xlabel("brightness (mean luma)")
    axes.set_ylabel("contrast (deviation of luma)")
    axes.set_title(f"{covered.share:.0%} of the scene's cells covered", fontsize=10)
    axes.legend(loc="upper right", fontsize=8)
    figure.colorbar(drawn, label="pictures of the scene")
    part = path.with_suffix(".part")
    figure.savefig(part, format="png")
    part.replace(path)
