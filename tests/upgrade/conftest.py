"""Lets the helper of the tables show what differs."""

import pytest

pytest.register_assert_rewrite("tests.upgrade.scripts")
