"""The five questions that support asks, in order: network, version, permissions, records, and a bundle to send."""
