"""Losses and loss terms. May import: functional."""
