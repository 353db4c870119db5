"""What rewinding and recordings share: journals of stored media, clips of it, and movies made from it."""
