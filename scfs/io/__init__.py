"""Files: written whole or not at all, locked, downloaded, and read in order."""
