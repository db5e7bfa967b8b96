"""The science: layers whose errors travel back through kernels of their own, and the rules that
align those kernels.
"""
