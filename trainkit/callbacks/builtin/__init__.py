"""The core's own plugins of a fit: schedulers and clipping. A Trainer adds them where they are needed."""
