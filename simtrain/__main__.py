"""``python -m simtrain``: the same as the ``simtrain`` command."""

from simtrain.cli.main import main

main()
