"""What ``self.optimizers()`` gives."""

from trainkit.loops.wrapped_optimizer import WrappedOptimizer as LightningOptimizer

__all__ = ["LightningOptimizer"]
