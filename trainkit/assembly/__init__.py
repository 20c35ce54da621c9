"""From the Trainer's settings to the plugins and the parts of a run."""
