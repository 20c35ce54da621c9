"""Lightning's ``tuner``, which trainkit does not have yet."""

from trainkit.compat.lightning.absent import absent_names

__all__: list[str] = []

__getattr__ = absent_names(
    __name__, {"Tuner": "a loop over short fits with other arguments; a tuner comes with a later version of trainkit"}
)
