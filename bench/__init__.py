"""The benchmarks: each a command whose output is a table."""
