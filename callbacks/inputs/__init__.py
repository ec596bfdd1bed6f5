"""Callbacks that change the rows before the forward pass. May import: engine, functional."""
