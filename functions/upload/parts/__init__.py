"""Uploads in parts: each part goes to a signed URL, straight to the store; only what is said of them comes here."""
