"""Accounts as administrators see them: found, changed, removed."""
