"""The audit page: what it shows, and its HTML."""
