"""Backbones: frames to tokens and segments. One network a file; `backbones.py` is their table."""
