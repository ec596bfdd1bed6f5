"""Callbacks that learn a biased view beside the model: probes, amplifiers, clusters."""
