"""What every part knows about Postgres."""
