"""What is said and where it waits: envelopes, event types, errors, ids, the clock, and the bounded mailbox.

This room knows no other. Import from the defining module; nothing is re-exported here.
"""
