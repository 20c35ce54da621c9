"""Lightning's ``cli``, in place of which trainkit has a command."""

from trainkit.compat.lightning.absent import absent_names

__all__: list[str] = []

_COMMAND = "the command `trainkit fit config.yaml`, or trainkit.from_config"

__getattr__ = absent_names(
    __name__, dict.fromkeys(("LightningArgumentParser", "LightningCLI", "SaveConfigCallback"), _COMMAND)
)
