"""What a finished run shows for people to judge: its suspects, and one page of everything.

May import: settings and all below.
"""
