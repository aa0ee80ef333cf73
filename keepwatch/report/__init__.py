"""What a manager reads: promises and what became of them over a period, as one HTML file, as text and as JSON."""
