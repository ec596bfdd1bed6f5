"""Callbacks that weigh rows or change how often they are drawn.

May import: engine, models, functional.
"""
