"""The page at /, /metrics, health and the JSON API, all from the view in memory. Reads only."""
