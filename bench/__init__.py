"""``make bench``: each figure beside its peer, measured in the same run, given as a ratio."""
