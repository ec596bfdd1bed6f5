"""The catalogue of bad inputs, a file a group; `tests/test_bad_inputs.py` goes through it."""
