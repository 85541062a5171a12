"""The study room: composes jobs, knows them by fingerprint, runs them and keeps their records."""
