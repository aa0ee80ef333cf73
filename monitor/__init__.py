"""Is this machine well? Probes, thresholds, alert life cycle, notification, history. Knows nothing of backups."""
