"""Networks are traced once for all tests of this folder."""

from collections.abc import Iterator

import pytest
from traced import traced_once


@pytest.fixture(scope="module", autouse=True)
def _traced_once() -> Iterator[None]:
    with traced_once():
        yield
