"""The demo's corpus: an invented world, and planted noise."""
