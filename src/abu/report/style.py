"""How every figure looks: its width, letters and colours, and how it is saved.

A figure is at most ``WIDTH`` inches wide at ``DPI`` pixels an inch, what a page of a git host shows
without shrinking it, so a font of ``SMALL`` points is read at its size. Colours are those of Okabe
and Ito (2008), which the colour-blind tell apart.
"""

import io
import zlib
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

from abu.data.palette import palette

DPI, WIDTH, SMALL, MEDIUM = 96, 7.2, 7.0, 8.5
INK, GREY, FAINT = "#222222", "#767676", "#d0d0d0"
BLUE, SKY, GREEN, ORANGE = "#0072b2", "#56b4e9", "#009e73", "#e69f00"
VERMILION, PURPLE, EARTH = "#d55e00", "#cc79a7", "#8c6d4f"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, EARTH)
DASHES, MARKERS = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1))), "osD^v"
CHANCE = {"color": GREY, "linestyle": ":", "linewidth": 1.2}
CEILING = {"color": INK, "linestyle": "--", "linewidth": 1}
FAMILIES = {  # of methods: a colour each; members differ by dash and marker
    BLUE: ("abu", "abu-linear", "abu-gauss-newton", "abu-gn", "abu-whole"),
    SKY: ("abu-plus", "abu-plus-gn"),
    VERMILION: ("coupling", "product", "ridge-product", "coupling-ridge"),
    GREEN: ("d-trak", "das", "trak", "journey-trak"),
    PURPLE: ("gradient-dot", "gradient-cosine"),
    ORANGE: ("pixel", "latent", "latent-ridge"),
    EARTH: ("clip-image", "clip-text", "dino", "bm25"),
    GREY: ("random", "chance", "none", "right"),
}
LOOKS = {
    name: (colour, DASHES[nth], MARKERS[nth])
    for colour, names in FAMILIES.items()
    for nth, name in enumerate(names)
}
# of methods that are not named above
FREE = [look for look in product(COLOURS, DASHES, MARKERS) if look not in LOOKS.values()]

SIZES = dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), MEDIUM)
SIZES |= dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), SMALL)
SIZES |= {"figure.dpi": DPI, "savefig.dpi": DPI, "grid.linewidth": 0.6, "lines.linewidth": 1.5}
INKS = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
INKS["grid.color"] = FAINT
sns.set_theme(style="whitegrid", palette=list(COLOURS), rc=SIZES | INKS)


def look(method: str) -> tuple:
    """Colour, dash and marker of a method, the same in every figure, however it is run (what
    follows a comma); of one that has no place here, by its name alone."""
    return LOOKS.get(method.partition(",")[0]) or FREE[zlib.crc32(method.encode()) % len(FREE)]


def save(figure: Figure, path: Path) -> None:
    """A figure as a PNG file with a palette; equal figures give equal bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.05)
    path.write_bytes(palette(file.getvalue()))


def panels(count: int, height: float, columns: int | None = None, **shared) -> tuple:
    """A figure of the full width with ``count`` axes in rows of ``columns``, each row ``height``
    inches high; what is left over in the last row is not drawn."""
    across = min(columns or count, count)
    rows = -(-count // across)
    options = {"figsize": (WIDTH, height * rows), "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(rows, across, **options, **shared)
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, axes.flat[:count]
