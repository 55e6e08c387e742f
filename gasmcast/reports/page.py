"""What all pages share: templates that escape every value, the look of both themes, one script known by its hash.

A page loads nothing. Its Content-Security-Policy lets run the one script whose hash it names, so that markup in a
name, a path or a label would do nothing even if it were not escaped.
"""

import base64
import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jinja2

from gasmcast.reports.theme import DARK, LIGHT, page_svg


def render(template: str, charts: Mapping[str, bytes], filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
  """The page that `template` (which extends page.html) makes of `values`.

  Args:
    template: a file of templates/.
    charts: name -> standalone SVG of `theme.svg`, shown by the macro `chart`.
    filters: name -> function of a value, beside "percent" and "count".
    values: what the template names.
  """
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("gasmcast.reports"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
  )
  environment.filters |= {"percent": percent, "count": lambda number: f"{number:,.0f}", **filters}
  script = environment.get_template("sort.js").render()
  return environment.get_template(template).render(
    charts={name: data_uri("image/svg+xml", page_svg(content)) for name, content in charts.items()},
    themes={"light": dataclasses.asdict(LIGHT), "dark": dataclasses.asdict(DARK)},
    script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    **values,
  )


def data_uri(kind: str, content: bytes) -> str:
  """`content` as an address that holds it."""
  return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def percent(share: float | None) -> str:
  """A share in percent, without the sign."""
  return "–" if share is None else f"{100 * share:.1f}"
