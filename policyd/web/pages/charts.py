"""Small bar charts as inline SVG, each with a text that says the same. Pure."""

from collections.abc import Sequence

from markupsafe import Markup, escape

_HEIGHT = 28
_BAR, _STEP = 3, 4  # units of width: a bar, and from one to the next


def bars(counts: Sequence[int], label: str) -> Markup:
    """A bar for each of *counts*; *label* is read out in its place, and shown where the mouse rests.

    The highest bar is as high as the chart, and what is not nothing is seen. Markup without a style: class names alone.
    """
    highest = max(counts, default=0) or 1
    path = "".join(_bar(index, count, highest) for index, count in enumerate(counts) if count)
    width = _STEP * len(counts)
    return Markup(
        '<svg class="chart" role="img" viewBox="0 0 {width} {height}" preserveAspectRatio="none">'
        "<title>{label}</title>"
        '<path class="ground" d="M0 {line}h{width}v1h-{width}z"/><path class="bars" d="{path}"/></svg>'
    ).format(width=width, height=_HEIGHT, line=_HEIGHT - 1, label=escape(label), path=path)


def _bar(index: int, count: int, highest: int) -> str:
    """One bar as a part of an SVG path."""
    height = max(1, round(count / highest * (_HEIGHT - 1)))
    return f"M{index * _STEP} {_HEIGHT - 1}v-{height}h{_BAR}v{height}z"
