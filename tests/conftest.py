"""Hypothesis profiles: few examples while one works, many and always the same ones in CI, very many by hand.

``pytest --hypothesis-profile long tests/protocols/test_laws.py`` takes half an hour.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("quick", max_examples=200, deadline=None, suppress_health_check=SLOW)
settings.register_profile("ci", max_examples=2000, deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.register_profile("long", max_examples=20_000, deadline=None, suppress_health_check=SLOW)
settings.load_profile("ci" if os.environ.get("CI") else "quick")
