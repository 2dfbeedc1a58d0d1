"""Who keeps order: registry, governance, sessions, stores, delivery, audit, sweepers, and the door to all of it.

This room knows the mailbox, the transports and, of the actors, the kernel and the session rules, but never the agents'
side: that import rule is the trust boundary. Import from the defining module; nothing is re-exported here.
"""
