"""Seven items in shards of three, worked on in this process; claims as other workers leave them; a full disk."""

import errno
import json
import os
import time

from gasmcast.core import leases
from gasmcast.core.shards import Work


def open_work(folder, items=7, size=3, identity=None, **options):
  return Work.open(folder, items, size, {"seed": 7} if identity is None else identity, suffix=".txt", **options)


def write(claim):
  claim.path.write_text(",".join(str(item) for item in range(claim.shard.first, claim.shard.last)))


def finish_all(work, wait=True):
  numbers = []
  for claim in work.claims(wait):
    with claim:
      write(claim)
      claim.finish()
    numbers.append(claim.shard.number)
  return numbers


def names(folder):
  return sorted(path.name for path in folder.iterdir() if path.name != leases.CLOCK)


def claimed_by(folder, number, age=0.0, **holder):
  """A claim as another worker would have left it, last renewed `age` seconds ago, and what it was writing."""
  said = {"host": "elsewhere", "pid": 1, "started": 1, "token": "b" * 32} | holder
  path = folder / f".{number:05d}.claim"
  path.write_text(json.dumps(said))
  part = folder / f".{number:05d}.{said['token']}.part"
  part.write_text("half")
  for file in (path, part):
    os.utime(file, (time.time() - age,) * 2)
  return path, part


def full_disk(*_, **__):
  raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
