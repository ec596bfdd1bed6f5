"""Callbacks that shift the logits that the criterion sees. May import: engine, functional."""
