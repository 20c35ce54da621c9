"""Lightning's ``tuner``, which trainkit does not have yet."""

from trainkit.compat.lightning.absent import absent

__all__: list[str] = []

__getattr__ = absent(
    __name__, {"Tuner": "a loop over short fits with other arguments; a tuner comes with a later version of trainkit"}
)
