"""Synthetic hearts that look like MM-WHS."""
