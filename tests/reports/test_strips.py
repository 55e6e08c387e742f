"""A strip shows frames of its clip in order; a clip that can't be decoded gives its reason."""

import cv2
import numpy as np
import pytest

from gasmcast.reports.strips import Clip, strip, strips

pytestmark = pytest.mark.usefixtures("patient")


def test_a_strip_shows_the_first_the_last_and_two_frames_between(clip):
  image = cv2.imdecode(np.frombuffer(strip(Clip(clip)), np.uint8), cv2.IMREAD_COLOR)
  assert image.shape == (120, 4 * 160 + 3 * 4, 3)
  levels = [image[:, 164 * place + 20 : 164 * place + 140].mean() for place in range(4)]
  assert levels == pytest.approx([20, 90, 160, 230], abs=8)
  part = cv2.imdecode(np.frombuffer(strip(Clip(clip, 0.0, 1 / 12)), np.uint8), cv2.IMREAD_COLOR)
  assert part[:, -140:-20].mean() == pytest.approx(20, abs=8)


def test_a_clip_that_cannot_be_decoded_gives_its_reason(clip, tmp_path):
  damaged = tmp_path / "damaged.webm"
  damaged.write_bytes(b"no video at all")
  found = strips([Clip(clip), Clip(str(damaged)), Clip(clip)], limit=10**6)
  assert found[Clip(clip)].startswith(b"RIFF")
  assert "is no WebM/Matroska, MP4/MOV, AVI file" in found[Clip(str(damaged))]
  assert strips([Clip(clip), Clip(str(damaged)), Clip(clip, 0.0)], limit=10)[Clip(clip, 0.0)] is None
  assert strips([], limit=0) == {}
