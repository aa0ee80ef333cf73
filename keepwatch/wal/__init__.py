"""PostgreSQL's log on its way into the repository: the light client, the receiver behind it, and who keeps it alive."""
