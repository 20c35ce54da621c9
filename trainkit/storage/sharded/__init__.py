"""Sharded checkpoints: folders into which all ranks write, each the parts that it holds.

Design: docs/design/0015-sharded-checkpoints.md.

=====================  =============================================================================
names.py               the names of its files
manifest.py            their digests, and which part of a tensor is where
place_holder.py        what stands for a tensor that is not read yet
dtensors.py            which tensors are split over ranks
distributed.py         what torch.distributed.checkpoint plans, and the parts of tensors
reader.py              reading and verifying
writer.py              writing, from the plan to the name
=====================  =============================================================================
"""
