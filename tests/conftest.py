"""Settings for the whole suite; fixtures live beside the tests that use them."""

from __future__ import annotations

from hypothesis import settings

# The same examples in every run, and no deadline per example: a slow machine is no failure.
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("fixed")
