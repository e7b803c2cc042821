"""`python -m orchestrator` is `guidedmix`."""

from orchestrator.cli import main

main()
