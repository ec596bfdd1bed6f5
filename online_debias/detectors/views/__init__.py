"""Detectors that choose among places of a feature map.

May import: detectors (the base classes), detectors.trees, detectors.means, functional, runtime.
"""
