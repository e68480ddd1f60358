"""Real parts for the tests, started when first asked for; see tests/services."""

pytest_plugins = ["tests.daemon", "tests.services.postgres", "tests.services.seaweed"]
