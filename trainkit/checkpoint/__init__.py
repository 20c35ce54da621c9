"""Checkpoints: which file ``ckpt_path`` means, whether what is in it fits, restoring it, older formats, tools.

A checkpoint is put together and applied in ``trainkit/trainer/run_state.py``. Its keys are in
``trainkit/storage/layout.py``, and how files are written and verified is in that folder.

======================  ============================================================================================
**Find**
locate.py               which file is meant: a path, "best", or "last"
head.py                 which run a file belongs to, and how far that was

**Migrate**
migrate.py              older formats, and the call of the next two
lightning.py            a checkpoint of Lightning as one of trainkit
lightning_callbacks.py  the states of Lightning's callbacks in it

**Judge**
optimizer_states.py     whether a state is such as that optimizer of torch would save
trial_steps.py          what it would: found by steps on small stand-ins
scheduler_states.py     whether a state is such as that scheduler would save, and leads to rates
options.py              whether arguments are of the types that torch has annotated

**Restore**
state.py                the states of plugins by their keys; what a fit cannot go on without
restore_states.py       those of optimizers and schedulers
averages.py             averages of weights beside the weights

**Take**
arguments.py            what optimizers, schedulers and other objects were made with
changes.py              what differs from what the run was made with
take.py                 values of the code in place of the file's, and the learning rate that follows from them

**Save**
sharded_save.py         what each rank has a part of, together
background.py           in a thread, from a copy that training does not change

**Tools**
describe.py             ``trainkit checkpoint show``
shown.py                values as text, for it and for ``diff``
diff.py                 ``trainkit checkpoint diff``, and the comparison of two runs
convert.py              ``trainkit checkpoint convert``: the only place that runs code from a file
join_shards.py          the same of a sharded checkpoint: one file, and nothing is run
export.py               ``trainkit checkpoint export``: weights as safetensors
======================  ============================================================================================
"""
