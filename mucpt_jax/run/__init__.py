"""What a run is made of around its step: data, checkpoints, metrics, interrupts, hosts."""
