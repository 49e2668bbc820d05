"""Accounts: registration, and what people say about themselves."""
