"""Files: written whole or not at all, read as data, local or remote. Knows nothing of runs.

Read first: ``files.py`` (checkpoint files). Writing goes on with ``storable.py`` (what may be in one) and
``atomic_write.py`` (one file, whole); reading with ``archive.py`` (the parts of a file), ``loading.py``,
``unpickler.py`` and ``constructors.py`` (the value in them), ``plain.py`` (its limits) and ``layout.py`` (its form, by
``schema.py``). ``remote.py`` is the same for URLs, ``walk.py`` a walk through nested values that names places.
"""
