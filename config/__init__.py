"""The settings: their table, flags, checks, params dictionary, settings files and recipes."""
