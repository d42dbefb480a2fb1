"""What happens inside jit: model, attention, losses, objective, optimizer, sharding.  Flax in model.py alone."""
