"""What programs for Lightning import from ``lightning.fabric``: its utilities. There is no Fabric."""

from trainkit.compat.lightning.absent import absent_names
from trainkit.compat.lightning.fabric import utilities
from trainkit.compat.lightning.utilities.seed import seed_everything

__all__ = ["seed_everything", "utilities"]

__getattr__ = absent_names(
    __name__, {"Fabric": "a Trainer; trainkit.strategies and trainkit.precision can be used in a loop of your own"}
)
