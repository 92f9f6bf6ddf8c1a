"""A figure of matplotlib as the text of an SVG document.

matplotlib takes half as long to import as jax, and a command draws nothing, or at its end: who
draws imports it then.
"""

import io
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def svg(
    title: str,
    size: tuple[float, float],
    paint: Callable[["Figure"], None],
    *,
    layout: Any = "constrained",
    style: dict[str, Any] | None = None,
) -> str:
    """What `paint` puts on a figure of this size (inches). The same painting gives the same bytes.

    `title` tells the names inside the document from those of other documents.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9} | (style or {})
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser's fonts may have it
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        figure = Figure(figsize=size, layout=layout)
        paint(figure)
        out = io.StringIO()
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})
    return out.getvalue()
