"""The host as node_exporter shows it: same names, types and labels, so that its dashboards and rules work unchanged."""
