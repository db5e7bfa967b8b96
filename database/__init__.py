"""Stores records and checkpoints of experiments in MongoDB, and starts a server if needed."""
