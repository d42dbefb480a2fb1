"""Entities and what is stated of them: out of pages and catalogues, into questions."""
