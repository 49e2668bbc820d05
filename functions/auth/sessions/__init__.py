"""Sessions: logging in and out, refreshing, and the keys that access tokens are checked with."""
