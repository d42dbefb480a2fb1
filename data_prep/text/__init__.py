"""What a text is made of: words, lines, scripts, languages."""
