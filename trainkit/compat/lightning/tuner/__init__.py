"""Lightning's ``tuner``, which trainkit does not have yet."""

from trainkit.compat.lightning.absent import LATER_TUNER, absent_names

__all__: list[str] = []

__getattr__ = absent_names(__name__, {"Tuner": LATER_TUNER})
