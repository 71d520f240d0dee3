"""Helpers for development only; production never imports them."""
