"""Answers, their judging, and runs put side by side."""
