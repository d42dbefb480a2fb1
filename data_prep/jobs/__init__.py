"""How a Beam job reads, runs, counts and writes."""
