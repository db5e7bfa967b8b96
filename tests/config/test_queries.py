"""What --load_query may hold."""

import pytest

from config import schema


@pytest.mark.parametrize('operator', ['$where', '$function', '$accumulator'])
@pytest.mark.parametrize('form', ['{{"{}": "1"}}', '{{"$expr": [{{"{}": {{"body": "1"}}}}]}}'])
def test_a_query_runs_no_code(operator, form):
    config = schema.Config(load_query=form.format(operator))
    with pytest.raises(schema.ConfigError, match=rf'may not hold \{operator}'):
        schema.query_of(config)
