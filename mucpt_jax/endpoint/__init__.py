"""A language model behind an endpoint: settings, a call, its cost, the replies that are kept."""
