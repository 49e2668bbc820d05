"""Log-in through an OpenID Connect provider: authorisation code with PKCE, state and nonce.

In the order of a log-in: `attempt.py` (what travels with the browser), `provider.py` and `id_token.py` (the provider and
what it says), `people.py` (what that means here), `accounts.py` (whose account it is).
"""
