"""Signatures, groups and repeated lines."""
