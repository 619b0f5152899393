"""Queries of the bootstrap, one statement a file."""
