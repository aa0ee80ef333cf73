"""What is backed up: one module a kind of source, all behind the seam of :mod:`backup.sources.base`."""
