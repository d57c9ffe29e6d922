"""Opinions on what the facts say. Checks never parse; each is listed here once, in the order of the reports."""
