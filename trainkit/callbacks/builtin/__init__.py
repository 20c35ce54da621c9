"""Plugins that a Trainer adds by itself where a fit needs them: stepping schedulers and clipping gradients."""
