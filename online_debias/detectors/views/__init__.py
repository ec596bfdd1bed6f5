"""Detectors that choose among places of a feature map.

May import: detectors.trees, detectors.means, functional, runtime.
"""
