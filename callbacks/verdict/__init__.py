"""Callbacks that judge: is there a shortcut, is a label wrong?"""
