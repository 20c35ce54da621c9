"""The command line. Nothing in it imports torch before a command needs it, so ``--help`` answers at once."""
