"""A complete clone between two throw-away servers, and the servers and the data set that it needs."""
