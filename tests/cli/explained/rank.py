"""The command ``trainkit`` on one of several ranks."""

from trainkit.cli.main import main

main()
