"""Files: written whole or not at all, verified before they are trusted, local or remote. Knows nothing of runs.

Read first: ``files.py`` (checkpoint files), ``atomic_write.py`` (writing one whole), ``storable.py`` (what may be
in one). ``remote.py`` is the same for URLs, ``walk.py`` a walk through nested values that names places.
"""
