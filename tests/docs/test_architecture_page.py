"""Every module, function, class, file and flag that docs/architecture.md names exists."""

import ast
import os
import re

import every
from config.schema import rows_of
from test_architecture import MAY_IMPORT, MEASURE, PRODUCT, ROOT, tree
from training.choices import choices

PAGE = os.path.join(ROOT, 'docs', 'architecture.md')
# What is in backticks and is neither a name of ours nor a path: files and fields that runs write,
# code, and names of others.
OTHERS = {
    'params.model_params.alpha',
    'dataset.json',
    'settings.json',
    'checkpoint-<step>.index',
    '.data-*',
    '.index',
    '.tar',
    '_id',
    'alpha = Coefficient(1e-3)',
    'self.alpha',
    'code style',
    'TF_CONFIG',
    'MAY_IMPORT',
    'tensorflow.compat.v1',
}


def names():
    """Every qualified name of the program: packages, modules, and what they define at any depth."""
    found = set()

    def visit(node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
                found.add(f'{prefix}.{child.name}')
                found.update(
                    f'{prefix}.{child.name}.{argument.arg}'
                    for argument in getattr(getattr(child, 'args', None), 'args', ())
                )
                visit(child, f'{prefix}.{child.name}')
            elif isinstance(child, (ast.Assign, ast.AnnAssign)):
                targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                found.update(
                    f'{prefix}.{name.id}'
                    for target in targets
                    for name in ast.walk(target)
                    if isinstance(name, ast.Name)
                )

    for path in PRODUCT:
        module = path[: -len('.py')].replace(os.sep, '.')
        module = module[: -len('.__init__')] if module.endswith('.__init__') else module
        found.add(module)
        visit(tree(path), module)
    return found


NAMES = names()
ENDINGS = {
    name[start:] for name in NAMES for start in [0] + [m.end() for m in re.finditer(r'\.', name)]
}


def quoted():
    """What stands in backticks on the page, each once."""
    with open(PAGE, encoding='utf-8') as file:
        return sorted(set(re.findall(r'`([^`\n]+)`', file.read())))


def exists(text):
    """Whether a text in backticks is the name of something that is there."""
    if text.startswith('--'):
        return text[2:].partition('=')[0] in rows_of(choices())
    if '/' in text or text.endswith('.py'):
        return os.path.exists(os.path.join(ROOT, text))
    return text in ENDINGS


@every.case_of(quoted())
def test_a_name_on_the_page_exists(text):
    assert text in OTHERS or exists(text)


def test_the_test_tells_names_from_others():
    assert exists('training.loop.Run._steps') and exists('Store.save') and exists('--alpha_start')
    assert not exists('Store.write_all') and not exists('--alpha_begin') and not exists('a/b.py')
    assert OTHERS <= set(quoted()) and not any(map(exists, OTHERS))
    assert len(quoted()) > 120


def test_the_table_of_packages_is_that_of_the_test():
    with open(PAGE, encoding='utf-8') as file:
        rows = re.findall(r'(?m)^\| ((?:`\w+`(?:, )?)+) \|[^|]*\| ([^|]*) \|$', file.read())
    told = {
        package: tuple(re.findall(r'`(\w+)`', imports))
        for packages, imports in rows
        for package in re.findall(r'`(\w+)`', packages)
    }
    assert set(told) >= set(MAY_IMPORT) | MEASURE
    assert {package: sorted(told[package]) for package in MAY_IMPORT} == {
        package: sorted(imports) for package, imports in MAY_IMPORT.items()
    }
