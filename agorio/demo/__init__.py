"""The newsroom: a demo that does a real job on the user's own texts.

`text`, `words`, `claims`, `summary`, `digest`, `ledger` and `messages` are pure; `files` and `work` read the disk;
`newsroom` holds the agents and their flow, knowing no link; `network` puts them on a hub; `screen` shows it.
"""
