"""How each kind of loader finds its place again in the middle of an epoch.

Read ``cursor.py`` (what a position is), ``cursors.py`` (which cursor a loader gets), then ``index_cursor.py`` (that of
a DataLoader).

====================  ==================================================================================================
index_stream.py       the indices that a sampler gives in one pass: skipped, counted, with a checksum
seeding.py            indices that seed the worker to which they are sent
tensor_cursor.py      a `TensorLoader`
stateful_cursor.py    a loader with ``state_dict`` and ``load_state_dict``
replay_cursor.py      any other iterable
====================  ==================================================================================================
"""
