"""Weights in and out: Hugging Face folders."""
