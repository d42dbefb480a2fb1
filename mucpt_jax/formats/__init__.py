"""What lies on disk: rows, manifests, scores.  No jax; all of the device code that data_prep may import."""
