"""The mapping tables: loading, checking, compiling. No IO but reading the tables."""
