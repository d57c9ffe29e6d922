"""Coverage-guided fuzzing, ``python -m tests.fuzz``: :mod:`tests.fuzz.targets` and :mod:`tests.fuzz.__main__`."""
