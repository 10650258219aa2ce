"""`python -m hub.cli` is `lorahub`."""

from hub.cli import main

main()
