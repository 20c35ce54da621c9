"""Checkpoints: what is in one, which file ``ckpt_path`` means, older formats, Lightning's files, and tools for them.

Read first: ``state.py`` (the keys), ``locate.py`` (which file is meant), ``migrate.py`` (older formats, Lightning).

======================  ================================================================================================
lightning.py            a checkpoint of Lightning as one of trainkit
lightning_callbacks.py  the states of Lightning's callbacks in it
background.py           saving in a thread, from a copy that training does not change
describe.py             ``trainkit checkpoint show``
diff.py                 ``trainkit checkpoint diff``, and the comparison of two runs
convert.py              ``trainkit checkpoint convert``: the only place that runs code from a file
export.py               ``trainkit checkpoint export``: weights as safetensors
======================  ================================================================================================

How files are written and verified is in ``trainkit/storage``; a checkpoint is put together and applied in
``trainkit/trainer/run_state.py``.
"""
