"""`python -m scfs.cli`: what torchrun starts."""

from scfs.cli import main

main()
