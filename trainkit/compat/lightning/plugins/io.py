"""Reading and writing checkpoints: not replaceable in trainkit, which writes atomically and reads safely."""

from trainkit.compat.lightning.absent import absent_names

__all__: list[str] = []

_OWN = "on_save_checkpoint and on_load_checkpoint, or trainer.dump_checkpoint() to write it elsewhere"

ABSENT = dict.fromkeys(("AsyncCheckpointIO", "CheckpointIO", "TorchCheckpointIO", "XLACheckpointIO"), _OWN)

__getattr__ = absent_names(__name__, ABSENT)
