"""The tasks of lm-evaluation-harness on our model: log p of options, local data, results."""
