"""The one-time copy of a database under one snapshot."""
