"""Changes from disk to the target: transform and replay."""
