"""What a fit is going to do, told before anything runs: ``trainer.explain()`` and ``trainkit explain``."""
