"""Coverage-guided fuzzing: ``python -m tests.fuzz`` (see :mod:`tests.fuzz.targets` and :mod:`tests.fuzz.__main__`)."""
