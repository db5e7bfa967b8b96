"""The values that --load_query accepts."""

import pytest

from config.query import query_of
from config.schema import ConfigError


@pytest.mark.parametrize('operator', ['$where', '$function', '$accumulator'])
@pytest.mark.parametrize('form', ['{{"{}": "1"}}', '{{"$expr": [{{"{}": {{"body": "1"}}}}]}}'])
def test_a_query_runs_no_code(operator, form):
    with pytest.raises(ConfigError, match=rf'must not contain .*\{operator}'):
        query_of(form.format(operator))


@pytest.mark.parametrize(
    'query',
    [
        '{"a": 18446744073709551616}',
        '{"a": ' + '9' * 3000 + '}',
        '{"a": {"$numberLong": "99999999999999999999"}}',
        '{"a": {"$date": 1e400}}',
        '{"a": {"$date": "x"}}',
        '{"a": {"$numberDecimal": "abc"}}',
        '{"a": {"$binary": 1}}',
        '{"a\\u0000": 1}',
        '{"\\ud800": 1}',
        '{"a": "\\ud800"}',
        '{"$ref": "x", "$id": 1}',
        '[' * 100_000,
    ],
    ids=lambda query: query[:32],
)
def test_what_mongodb_could_not_be_sent_is_refused(query):
    with pytest.raises(ConfigError, match='^--load_query='):
        query_of(query)
