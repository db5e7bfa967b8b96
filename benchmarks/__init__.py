"""Programs that measure; README.md quotes what they print."""
