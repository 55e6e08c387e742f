"""The table of job cache_fidelity: a row a stream of each variant, and what the numbers mean."""

from collections.abc import Mapping
from typing import Any

_COLUMNS = (
  *("variant", "stream", "cosine, mean", "1st percentile", "minimum"),
  *("lost by pooling", "lost by storing", "explained", "bytes a clip", "all clips"),
)
_BRIEF = {"variant": "form", "stream": "stream", "cosine, mean": "cosine", "lost by pooling": "pooling"}
_BRIEF |= {"lost by storing": "storing", "bytes a clip": "bytes", "top-1": "top-1", "equal answers": "equal"}
_HEAD_COLUMNS = ("top-1", "equal answers", "probabilities differ by")


def table(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
  """(columns, rows) from fidelity.json; what concerns a variant as a whole stands in its first row."""
  with_head, rows = result["head"] is not None, []
  columns = _COLUMNS + (_HEAD_COLUMNS if with_head else ())
  for form in result["variants"]:
    if "impossible" in form:
      rows.append((form["name"], "impossible", *[""] * (len(columns) - 2)))
      continue
    whole = (f"{form['bytes_of_clip']:,}", size(form["bytes_of_all"]))
    whole += _answers(form["head"]) if with_head else ()
    for place, (name, numbers) in enumerate(form["streams"].items()):
      cosine = (f"{numbers['cosine'][key]:.6f}" for key in ("mean", "p1", "min"))
      shares = (_share(numbers[key]) for key in ("lost_by_pooling", "lost_by_storing", "explained"))
      first = place == 0
      rows.append((form["name"] if first else "", name, *cosine, *shares, *(whole if first else [""] * len(whole))))
  return columns, rows


def brief(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
  """(columns, rows) that fit a console: some of the columns, under shorter names."""
  columns, rows = table(result)
  places = [place for place, column in enumerate(columns) if column in _BRIEF]
  return tuple(_BRIEF[columns[place]] for place in places), [tuple(row[place] for place in places) for row in rows]


def notes(result: Mapping[str, Any]) -> list[str]:
  """Sentences below the table: what was compared, what is not in it and why."""
  reference, data, stored = result["reference"], result["data"], result["all"]
  lines = [f"Reference: {reference['origin']}, {reference['precision']}; {data['clips']} clips of {data['split']!r}."]
  if reference["precision"] == "bfloat16":
    lines.append("What bfloat16 itself loses is not seen against a reference in bfloat16.")
  if result["components"]:
    fitted = result["components"]
    lines.append(f"Components were fitted on {fitted['clips']} other clips, of {fitted['split']!r}.")
  views = f", {stored['views']} views of each" if stored["views"] > 1 else ""
  clips = ", ".join(f"{count:,} of {split!r}" for split, count in stored["splits"].items())
  lines.append(f"All clips: {clips}{views}.")
  answered = [form["head"] for form in result["variants"] if isinstance(form.get("head"), Mapping)]
  if answered:
    lines.append(f"Top-1 of {result['head']['workdir']} with the reference: {_percent(answered[0]['top1_reference'])}.")
  for form in result["variants"]:
    if isinstance(form.get("head"), str):
      lines.append(f"{form['name']}: {form['head']}.")
    if "impossible" in form:
      lines.append(f"{form['name']}: impossible, {form['impossible'].rstrip('.')}.")
  if result["unreadable"]:
    lines.append(f"{len(result['unreadable'])} clips could not be read; fidelity.json says why.")
  return lines


def markdown(result: Mapping[str, Any]) -> str:
  """The table and the notes."""
  columns, rows = table(result)
  lines = [f"| {' | '.join(columns)} |", f"|---|---|{'---:|' * (len(columns) - 2)}"]
  lines += [f"| {' | '.join(row)} |" for row in rows]
  lines += [
    "",
    "Cosine: of each token, between the reference with as many tokens and what is restored of the variant. Lost by "
    "pooling: the share of the variance of all tokens that averaging them removes. Lost by storing: of the variance of "
    "the averaged tokens, the share that precision and components remove. Explained: what the components held of the "
    "clips that they were fitted on.",
    "",
    *(f"- {note}" for note in notes(result)),
  ]
  return "\n".join(lines) + "\n"


def size(count: int) -> str:
  """Bytes in the largest decimal unit that leaves at least 1: "816 GB"."""
  for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
    if count >= scale:
      return f"{count / scale:.3g} {unit}" if count < 999.5 * scale else f"{count / scale:,.0f} {unit}"
  return f"{count} B"


def _answers(head: Mapping[str, float] | str) -> tuple[str, ...]:
  if isinstance(head, str):
    return ("n/a", "", "")
  return (_percent(head["top1"]), _percent(head["agreement"]), f"{head['probability_difference']:.5f}")


def _share(value: float | None) -> str:
  return "" if value is None else f"{100 * value:.3g} %"


def _percent(value: float) -> str:
  return f"{100 * value:.1f} %"
