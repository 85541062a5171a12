"""From an encoder to measures: embedding, exact search, evaluation."""
