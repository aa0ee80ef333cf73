"""PostgreSQL's write-ahead log in a repository: names, storing, finding, keeping in order."""
