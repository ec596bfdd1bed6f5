"""Maths of logits: shifts and projections. May import: functional."""
