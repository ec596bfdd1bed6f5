"""What makes a bias: colours, corruptions, shares.

May import: data (its base classes), data.reading, runtime, errors.
"""
