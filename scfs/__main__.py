"""`python -m scfs`: the command line."""

from scfs.cli import main

main()
