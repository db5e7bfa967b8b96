"""Layers that send errors back through separate backward kernels, and the rules that align them."""
