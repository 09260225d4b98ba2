"""The durable record of every message and its state: the only meeting point of intake and delivery."""
