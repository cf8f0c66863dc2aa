"""Comparisons of starts."""
