"""Of logits: shifts and projections. May import: functional."""
