"""Callbacks that change the rows before the forward pass: varied, copied, mixed."""
