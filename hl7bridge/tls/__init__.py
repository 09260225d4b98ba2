"""TLS without sockets: contexts under BCP 195, what certificates say, their rotation on disk."""
