"""Tokens, keys, roles, sealed names: what every function uses to know and to protect."""
