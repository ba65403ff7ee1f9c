"""A candidate on a device: the wave that trains it, and who answers its questions."""
