"""Backbones: frames to tokens and segments. One network a file; `backbones.py` holds their tables.

net = features.load("efficientnet_lite0")
net(frames)["pooled"]
"""

import importlib

_PUBLIC = {"load": "network", "convert": "network", "Network": "network", "BACKBONES": "backbones"}


def __getattr__(name: str):
  """`load`, `convert`, `Network` and `BACKBONES`, imported when they are first asked for: they bring in jax."""
  if name in _PUBLIC:
    return getattr(importlib.import_module(f"gasmcast.features.{_PUBLIC[name]}"), name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
