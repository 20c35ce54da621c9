"""What a run was made with and how it has ended: ``run.json``, ``changes.patch`` and ``summary.json`` in its folder.

In reading order.

===============  ====================================================================================================
starts.py        ``run.json``: each start of the run, the first and those that went on
command_line.py  the command, without passwords
environment.py   Python, the machine, the packages
manifest.py      the plugins and the module: from which package, from which file
repository.py    the commit, and what is not committed
differences.py   what is not as it was at the start before
summary.py       ``summary.json``: how the run has ended, and its best values
json_file.py     reading and writing such a file
===============  ====================================================================================================
"""
