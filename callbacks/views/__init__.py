"""Callbacks that learn a biased view beside the model: probes, amplifiers, clusters.

May import: engine, models, detectors, functional, runtime.
"""
