"""Callbacks that weigh rows or change which rows are drawn."""
