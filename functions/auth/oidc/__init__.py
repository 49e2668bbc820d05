"""Log-in through an OpenID Connect provider."""
