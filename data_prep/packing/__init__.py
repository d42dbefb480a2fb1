"""Tokens to segments to packed rows."""
