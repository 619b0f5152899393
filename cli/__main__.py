"""``python -m pgcopydb.cli``: how the program starts itself again for a stage."""

from pgcopydb.cli.main import main

main()
