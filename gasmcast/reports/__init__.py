"""From numbers to figures and one self-contained page."""
