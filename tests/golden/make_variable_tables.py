"""Writes variables_<network>.json, the tables of every network's variables under a rule.

    PYTHONPATH=. python tests/golden/make_variable_tables.py [network ...]

Run it in the repository root after a deliberate change of a network, and read the diff: a
checkpoint from before the change can be restored only if its names and shapes still exist.
"""

import json
import sys

from training import runtime  # noqa: F401 (first: it prepares TensorFlow)

import reference
import skeleton

TRAINABLE, OTHERS, COUNTER = 'float32, trainable', 'float32', 'int64'


def table(label):
    """Returns {kind: {variable: shape}} of a network, before any optimiser adds its slots."""
    variables = skeleton.of(label).variables
    kinds = {TRAINABLE: {}, OTHERS: {}, COUNTER: {'global_step': []}}
    for name in sorted(variables):
        shape, trainable = variables[name]
        kinds[TRAINABLE if trainable else OTHERS][name] = list(shape)
    return {kind: shapes for kind, shapes in kinds.items() if shapes}


def text(kinds):
    """Returns the table as JSON, with one variable a line."""
    blocks = [
        '{}: {{\n{}\n}}'.format(
            json.dumps(kind),
            ',\n'.join(
                ' {}: {}'.format(json.dumps(name), json.dumps(shape, separators=(',', ':')))
                for name, shape in variables.items()
            ),
        )
        for kind, variables in kinds.items()
    ]
    return '{' + ',\n'.join(blocks) + '}\n'


def file_of(label):
    return f'variables_{label}.json'


def main(labels):
    """Writes the tables of these networks, or of all networks."""
    for label in labels or skeleton.networks():
        content = text(table(label))
        with open(reference.path(file_of(label)), 'w', encoding='utf-8') as file:
            file.write(content)
        print(file_of(label))


if __name__ == '__main__':
    main(sys.argv[1:])
