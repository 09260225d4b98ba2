"""Logs, metrics and health: what leaves the process about itself, never patient data."""
