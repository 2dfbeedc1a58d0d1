"""The commands besides the demo: a hub and agents as programs, and what an operator does with a store.

`arguments.py` holds every command's arguments and imports nothing that is slow, so that `--help` is quick; the file of
a command is imported when it runs. Exit codes are 0 for done, 1 for done and something is wrong, 2 for not done.
"""
