"""Metrics logged with ``self.log``: from the call of a user to a number that is the same on every rank.

`collector` takes the calls. It keeps one `phase.PhaseLog` per running phase, which holds one `slots.Slot` per name,
which holds one `running.Running` value. `reduce` ends a phase: every name gets its value, over all ranks.
"""
