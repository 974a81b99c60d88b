"""Whatever is sent, the service answers as its description says."""

import time
from typing import Any, Iterator, List

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from tests.deploy.util import listening

GOOD, BAD = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening(max_characters=50, max_texts=3, max_bytes=2000) as url:
        while httpx.get(f"{url}readyz").status_code != 200:
            time.sleep(0.05)
        yield url


def test_it_answers_as_described(url: str) -> None:
    schema: Any = schemathesis.openapi.from_url(f"{url}openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 4
    statuses: List[int] = []
    for operation in operations:
        # Where nothing is sent, nothing can be wrong.
        for mode in (GOOD, BAD) if operation.body else (GOOD,):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
            def check(case: Any) -> None:
                statuses.append(case.call_and_validate().status_code)

            check()
    # Neither is all refused nor all taken, and nothing fails.
    assert {200, 422} <= {*statuses} and 500 not in statuses
