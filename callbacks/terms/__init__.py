"""Callbacks that add a term to the loss. May import: engine, models, taps, functional."""
