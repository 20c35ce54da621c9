"""From names to objects: the catalog of names, and how the Trainer's arguments become parts of a run."""
