"""How to run: devices, the step, the loop, checkpoints."""
