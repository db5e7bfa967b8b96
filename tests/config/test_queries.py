"""The values that --load_query accepts."""

import pytest

from config.query import query_of
from config.schema import ConfigError


@pytest.mark.parametrize('operator', ['$where', '$function', '$accumulator'])
@pytest.mark.parametrize('form', ['{{"{}": "1"}}', '{{"$expr": [{{"{}": {{"body": "1"}}}}]}}'])
def test_a_query_runs_no_code(operator, form):
    with pytest.raises(ConfigError, match=rf'must not contain .*\{operator}'):
        query_of(form.format(operator))
