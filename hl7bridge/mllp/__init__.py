"""MLLP Release 1: framing (sans-IO), server, client."""
