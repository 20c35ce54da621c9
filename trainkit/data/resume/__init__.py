"""How each kind of loader finds its place again in the middle of an epoch. Read ``cursor.py``, then ``cursors.py``."""
