"""How it crosses: frames, links, and the link within one process.

This room knows the mailbox only. Import from the defining module; nothing is re-exported here.
"""
