"""Other libraries that decode videos, each with one thread and in the way that is its fastest for a few exact frames.

A peer is a function without arguments that imports its library and gives `read(path, choose)`: RGB frames uint8
[T, H, W, 3] of the frame numbers that `choose(frame count)` names. `encode` writes the videos that are measured.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int, UInt8

Frames = UInt8[np.ndarray, "T H W 3"]
Choose = Callable[[int], Int[np.ndarray, "T"]]
Read = Callable[[str, Choose], Frames]

_ENCODERS = {"vp9": ("libvpx-vp9", {"deadline": "good", "cpu-used": "4"}), "h264": ("libx264", {})}


def pyav() -> Read:
  """PyAV decodes from the beginning up to the last frame that is wanted and converts the wanted ones.

  The frame count is what the container says: the exact one would take another pass over the file. Left to itself PyAV
  converts with several threads, which costs a third more of the CPU than one, and more time too where others work.
  """
  import av

  def read(path: str, choose: Choose) -> Frames:
    with av.open(path) as container:
      stream = container.streams.video[0]
      stream.thread_count, stream.thread_type = 1, "SLICE"
      total = stream.frames or round(float(container.duration / av.time_base * stream.average_rate))
      wanted = choose(total).tolist()
      clip = np.empty((len(wanted), stream.height, stream.width, 3), np.uint8)
      for number, frame in enumerate(container.decode(stream)):
        if number == wanted[0]:
          clip[len(clip) - len(wanted)] = frame.reformat(format="rgb24", threads=1).to_ndarray()
          wanted.pop(0)
          if not wanted:
            return clip
    raise ValueError(f"{path}: {len(wanted)} frames are missing")

  return read


def torchcodec(seek_mode: str = "exact") -> Read:
  """VideoDecoder.get_frames_at, whose exact mode reads the file once before to learn where each frame is."""
  import torch
  from torchcodec.decoders import VideoDecoder

  torch.set_num_threads(1)

  def read(path: str, choose: Choose) -> Frames:
    decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode=seek_mode)
    return decoder.get_frames_at(choose(len(decoder)).tolist()).data.numpy()

  return read


def torchcodec_approximate() -> Read:
  """The same in the mode that believes the container, and finds other frames where the rate varies."""
  return torchcodec("approximate")


def encode() -> Callable[[str, Frames, str, int, int], None]:
  """Gives `encode(path, frames, codec, rate, bits)`, by the libraries that PyAV brings.

  Raises:
    ImportError: PyAV is not installed.
  """
  import av

  def write(path: str, frames: Frames, codec: str, rate: int, bits: int) -> None:
    name, options = _ENCODERS[codec]
    height, width = frames.shape[1:3]
    if codec == "h264":  # colours have half the resolution, in whole pixels
      height, width = height // 2 * 2, width // 2 * 2
    with av.open(path, "w") as container:
      stream = container.add_stream(name, rate=rate, options=options)
      stream.height, stream.width, stream.pix_fmt, stream.bit_rate = height, width, "yuv420p", bits
      for frame in frames:
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
        container.mux(stream.encode(picture))
      container.mux(stream.encode(None))

  return write
