"""The loops: what happens to a batch, in order. Read ``fit.py`` first, then ``optimize.py``."""
