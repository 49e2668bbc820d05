"""Mail that accounts get: a port with an SMTP sender and, on one machine, a folder."""
