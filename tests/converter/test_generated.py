"""Scripts that nobody has written, put together from what real ones do: each trains after conversion as before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings

from tests.converter.generated import training_scripts
from tests.converter.scripts import converted, in_each_mode


@pytest.mark.slow
@in_each_mode
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=training_scripts())
def test_it_trains_identically(
    text: str, style: str, runtime: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    done = converted(text, style=style, runtime=runtime)
    assert not [one for one in done.findings if one.code.startswith("LF9")]
    trains_identically(text, done.text)
