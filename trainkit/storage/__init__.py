"""Files: written whole or not at all, read as data, local or remote; and the layout of what a run saves in one.

Of a run nothing is known here but the form of what it saves, and which hooks it can be saved in. What is read is
compared with that, and given on to those who have saved it.

In reading order, ``files.py`` first: there all others come together.

=====================  =============================================================================================
files.py               writing, reading, verifying, linking and deleting a checkpoint

**Reading**
regular.py             opening a regular file, and nothing that never answers
archive.py             the parts of a file, their checksums and the seal
loading.py             from an archive to the value in it, by the three that follow
unpickler.py           the machine that carries out the instructions of its pickle
constructors.py        what these may make
plain.py               which types there are, and the limits
walk.py                nested values, each with its place

**Comparing**
schema.py              a value with annotations
layout.py              a checkpoint with its layout: all keys, and what they mean
contradictions.py      what one place says and another denies
tensors.py             a tensor with the one whose place it is to take
owners.py              whose state something is: errors name the owner, the file and the place

**Writing**
storable.py            what may be in a file, found out before it is written
atomic_write.py        one file, whole or not at all
temporary.py           the file in which it is built up, and what killed processes left of such
refused.py             what to do where the file system refuses
remote.py              the same for URLs

saving.py               from a value to an archive
put_in_place.py         the name for what was built, whatever has that
temporary_names.py      the names until then

sharded/                a folder into which all ranks write; see there

**Beside checkpoints**
claim.py               a folder belongs to one run at a time
places.py              whether a path in a file leads to where the user's files are
yaml_text.py           YAML within limits
=====================  =============================================================================================
"""
