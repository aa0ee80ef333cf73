"""Can we get it back? Storage, repository, sources, archiver, restorer, retention, drills. Knows nothing of checks."""
