"""Pure maths of the methods: tensors in, tensors out, in families.

May import: nothing of this library.
"""
