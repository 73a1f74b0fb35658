"""`python -m fleetbench`."""

from fleetbench.cli.entry import main

main()
