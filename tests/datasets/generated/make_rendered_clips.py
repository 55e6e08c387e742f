"""Writes rendered_clips.npz: what a recipe without the harder settings gave before those existed.

    python -m tests.datasets.generated.make_rendered_clips

"frames" uint8 [12, 2, H, W, 3]: the first and last frame, before they are encoded, of a training clip of each class;
"annotations" holds a line "file hash" for each of the five files. Made at commit df39a4a, by the code whose pixels must
stay; it is made anew only together with a raised _VERSION of moving_objects.py.
"""

import pathlib
import tempfile
from unittest import mock

import numpy as np

from gasmcast.datasets.generated import moving_objects, rendering
from gasmcast.datasets.generated.moving_objects import Recipe

FILE = pathlib.Path(__file__).with_name("rendered_clips.npz")
RECIPE = Recipe(seed=5, train=12, validation=12, test=12, height=32, width=40, frames_min=6, frames_max=9)


def rendered() -> dict[str, np.ndarray]:
  """The content of the file, by the code as it is now."""
  clips, render = [], rendering.render

  def keep(*arguments):
    clips.append(render(*arguments))
    return clips[-1]

  with tempfile.TemporaryDirectory() as folder, mock.patch.object(rendering, "render", keep):
    files = moving_objects.generate(pathlib.Path(folder) / "set", RECIPE, workers=1)["files"]
  lines = [f"{name} {found}" for name, found in sorted(files.items()) if name.endswith(".json")]
  return {"frames": np.stack([clip[[0, -1]] for clip in clips[: RECIPE.train]]), "annotations": np.array(lines)}


if __name__ == "__main__":
  np.savez_compressed(FILE, **rendered())
