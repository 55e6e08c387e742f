"""The sets of motion templates that a recipe can name, and what sets the classes of a pair apart.

The class of a template is its place in the set. A larger set begins with the smaller one.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from gasmcast.datasets.generated import further_motions, motions
from gasmcast.datasets.generated.motions import Motion

Pairs = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class TemplateSet:
  """The classes of a recipe.

  Attributes:
    names: the templates in the order of their classes, with a "[something]" for each object.
    pairs: what sets them apart -> pairs of templates, as in pairs.json. A pair may stand under two kinds.
  """

  names: tuple[str, ...]
  pairs: Mapping[str, Pairs]


SETS = {
  "twelve": TemplateSet(motions.TEMPLATES, {"mirrored": motions.MIRRORED, "reversed in time": motions.PAIRS}),
  "twenty_four": TemplateSet(
    (*motions.TEMPLATES, *further_motions.TEMPLATES),
    {
      "mirrored": (*motions.MIRRORED, *further_motions.MIRRORED_ONLY),
      "reversed in time": (*motions.PAIRS, *further_motions.REVERSED_ONLY),
      "order of events": further_motions.ORDER_OF_EVENTS,
      "nearer or farther": further_motions.NEARER_OR_FARTHER,
    },
  ),
}


def motion(template: str, rng: np.random.Generator) -> Motion:
  """A random instance of a template of any set. Poses stand in the order of the template's placeholders."""
  module = motions if template in motions.TEMPLATES else further_motions
  return module.motion(template, rng)
