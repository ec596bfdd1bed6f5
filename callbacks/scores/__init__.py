"""Callbacks that score how likely a row is bias-conflicting, or say its bias label.

May import: engine, views, detectors, functional, runtime.
"""
