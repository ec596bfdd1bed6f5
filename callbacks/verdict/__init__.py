"""Callbacks that judge labels: is one wrong? May import: engine, functional."""
