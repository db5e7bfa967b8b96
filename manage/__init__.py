"""Manages stored experiments: lists, compares, labels, deletes and carries them. See runs.py."""
