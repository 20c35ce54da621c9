"""What ``self.optimizers()`` gives."""

from trainkit.loops.optimizer_handle import OptimizerHandle as LightningOptimizer

__all__ = ["LightningOptimizer"]
