"""Scaling studies of training recipes for multilingual retrieval."""
