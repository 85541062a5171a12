"""Training pools and retrieval tasks: reading, sampling, leak checks."""
