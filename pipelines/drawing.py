"""Figures as pictures, and as drawings inside a page."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def saved(figure: Figure, path: Path) -> tuple[Path, str]:
    """Write the figure as `path`.png; returns that path, and the figure as an `<svg>` for a page that loads nothing. Equal figures are equal bytes."""
    picture, drawing = path.with_suffix(".png"), io.StringIO()
    figure.savefig(picture, dpi=150, metadata={"Software": None})
    figure.savefig(drawing, format="svg", metadata={"Date": None})
    svg = drawing.getvalue()
    return picture, svg[svg.index("<svg") :]
