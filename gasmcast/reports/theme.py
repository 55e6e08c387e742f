"""The look of every figure and page, light and dark, and the way from a matplotlib figure to bytes.

Figures are `matplotlib.figure.Figure` objects, drawn under `style` and saved here; pyplot and its global state are
never used. Equal figures give equal bytes. The colours stay apart for all common forms of colour blindness (blue,
vermilion and green of Okabe and Ito 2008, tuned for contrast on each background).
"""

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Iterator

import matplotlib
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Theme:
  """Colours by role. Within one theme all differ: `page_svg` finds a role by its colour."""

  surface: str  # behind figures and tables
  page: str  # behind the surfaces
  ink: str  # text
  muted: str  # secondary text, axes
  line: str  # grids and borders
  blue: str  # the subject of a figure
  vermilion: str  # what it is compared with; errors
  green: str  # a third kind


LIGHT = Theme("#ffffff", "#f5f6f8", "#1b1f24", "#5b6470", "#dfe3e8", "#0f6fb5", "#cc5200", "#0a7f5f")
DARK = Theme("#181c22", "#0f1216", "#e6e9ee", "#9aa4b1", "#313842", "#4ba3e6", "#f0813a", "#3fbf98")

# From nothing to blue: zero is the background of either theme, and the same image serves both.
SHARES = LinearSegmentedColormap.from_list("shares", [to_rgba("#1f6fb0", 0.0), to_rgba("#1f6fb0", 1.0)])
ON_SHARES = "#fdfdfd"  # text on the strong end of SHARES, in both themes


@contextlib.contextmanager
def style(theme: Theme) -> Iterator[None]:
  """The matplotlib settings under which figures are drawn and saved. Also a decorator."""
  settings = {
    "axes.axisbelow": True,
    "axes.edgecolor": theme.muted,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": theme.ink,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same layout on every machine
    "font.size": 9,
    "grid.color": theme.line,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "pdf.fonttype": 42,  # TrueType: publishers refuse matplotlib's own Type 3
    "svg.fonttype": "none",
    "svg.hashsalt": "gasmcast",
    "text.color": theme.ink,
    "text.parse_math": False,  # a class name with dollar signs is text
    "xtick.color": theme.muted,
    "ytick.color": theme.muted,
  }
  with matplotlib.rc_context(settings), warnings.catch_warnings():
    # A script that DejaVu lacks is measured with a substitute here; the browser that shows the SVG has the glyphs.
    warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font", UserWarning)
    yield


def label(text: str, width: int) -> str:
  """One printable line of at most `width` characters, for use inside a figure."""
  line = "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))
  return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def svg(figure: Figure) -> bytes:
  """The figure, drawn in the light theme, as a standalone SVG with text as text."""
  buffer = io.BytesIO()
  with style(LIGHT):
    figure.savefig(buffer, format="svg", metadata={"Date": None})
  return buffer.getvalue()


def pdf(figure: Figure) -> bytes:
  """The figure, drawn in the light theme, as vectors for a paper: the same bytes for the same figure."""
  buffer = io.BytesIO()
  with style(LIGHT):
    figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
  return buffer.getvalue()


def page_svg(light: bytes) -> bytes:
  """The SVG for use as an <img> of a page that may be dark: the page's fonts, and each role's colour by theme."""
  rules = "".join(
    f'[style*="{attribute}: {colour}"]{{{attribute}:{getattr(DARK, role)}!important}}'
    for role, colour in dataclasses.asdict(LIGHT).items()
    for attribute in ("fill", "stroke")
  )
  rules += "image{filter:brightness(1.4)}"  # SHARES, against a dark background
  sheet = (
    f"<style>text{{font-family:system-ui,sans-serif!important}}@media(prefers-color-scheme:dark){{{rules}}}</style>"
  )
  end = light.index(b">", light.index(b"<svg")) + 1
  return light[:end] + sheet.encode() + light[end:]


def raster(figure: Figure, theme: Theme, form: str, dpi: int) -> bytes:
  """The figure, drawn in `theme`, as "png" (exact) or "webp" (small)."""
  buffer = io.BytesIO()
  options = {"quality": 82} if form == "webp" else {}
  with style(theme):
    figure.savefig(buffer, format=form, dpi=dpi, facecolor=theme.surface, pil_kwargs=options)
  return buffer.getvalue()
