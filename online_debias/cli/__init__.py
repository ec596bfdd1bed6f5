"""The command `online-debias`, one file a subcommand.

May import: everything.
"""
