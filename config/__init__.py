"""What to run: every hyperparameter, the params dictionary and the shipped experiments."""
