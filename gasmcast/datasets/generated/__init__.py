"""Data sets made by our own code, whose right answers are known by construction."""
