"""Files: written whole or not at all, verified before they are trusted, local or remote. Knows nothing of runs."""
