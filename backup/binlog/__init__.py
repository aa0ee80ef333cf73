"""MariaDB's binlog in a repository: read as it grows, stored, found again, replayed."""
