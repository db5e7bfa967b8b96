"""The structure of the program: imports between packages, short functions and documentation.

Only some modules may know absl or the versions of TensorFlow.
"""

import ast
import functools
import os
import re

import pytest

import every

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MAINS = ('train', 'test', 'report', 'runs', 'search')
MEASURE = {'benchmarks', 'experiments'}  # packages with separate mains; nothing imports them
MAY_IMPORT = dict(
    config=(),
    alignment=(),
    data=(),
    database=(),
    models=('alignment',),
    reports=('config', 'database'),
    manage=('config', 'database', 'reports'),
    training=('config', 'data', 'models', 'alignment', 'database'),
)
SEE_FLAGS = {
    'report.py',
    'search.py',
    'config/flags.py',
}
TENSORFLOW = {'tensorflow.compat.v1'}
# Modules that import TensorFlow, among those that a conftest.py imports.
LOADS_TENSORFLOW = {'tensorflow', 'alignment', 'data', 'models', 'training', 'tiny'}
# Modules of TensorFlow that only training/runtime.py imports, besides tensorflow.compat.v1.
OF_SOME_VERSIONS = {
    'tensorflow.python.client',
    'tensorflow.python.client.device_lib',
    'tensorflow.contrib.compiler',
    'tensorflow.contrib.compiler.xla',
    'tensorflow.contrib',
    'tensorflow.contrib.tpu',
    'tensorflow.contrib.cluster_resolver',
    'tensorflow.python.ops',
    'tensorflow.python.ops.collective_ops',
    'tensorflow.python.util',
    'tensorflow.python.util.nest',
}
# What the names of the collections of MongoDB end in; only database/place.py writes them.
COLLECTIONS = ('files', 'chunks', 'claims', 'owners', 'uploads', 'searches', 'notes', 'unfinished')
LONGEST_LINE = 100
LONGEST_FUNCTION = 60  # lines without the docstring: one screen
MOST_STATEMENTS = 30  # in a function, without its docstring


def packages():
    """Returns the folders at the top level of the repository that are packages."""
    return {
        name for name in os.listdir(ROOT) if os.path.exists(os.path.join(ROOT, name, '__init__.py'))
    }


def product():
    """Returns the paths of the source files of the program, relative to the repository."""
    paths = [name + '.py' for name in MAINS + ('setup', 'missing_packages')]
    for package in packages():
        for folder, _, names in os.walk(os.path.join(ROOT, package)):
            paths += [
                os.path.relpath(os.path.join(folder, name), ROOT)
                for name in names
                if name.endswith('.py')
            ]
    return sorted(paths)


@functools.lru_cache(maxsize=None)
def source(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as file:
        return file.read()


@functools.lru_cache(maxsize=None)
def tree(path):
    """Returns the syntax tree of a file, parsed by the running Python.

    That Python 3.7 can parse the files too is shown by running the tests with it.
    """
    return ast.parse(source(path), path)


@functools.lru_cache(maxsize=None)
def imports(path):
    """Returns every module that a file imports, at any place in it.

    For `from training import runtime`, that is 'training' and 'training.runtime'.
    """
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import, line {node.lineno}'
            found.add(node.module)
            found.update(f'{node.module}.{alias.name}' for alias in node.names)
    return found


def top(modules):
    """Returns the first parts of module names."""
    return {module.split('.')[0] for module in modules}


PRODUCT = product()
CONFTESTS = sorted(
    os.path.relpath(os.path.join(folder, 'conftest.py'), ROOT)
    for folder, _, names in os.walk(os.path.join(ROOT, 'tests'))
    if 'conftest.py' in names
)
IN_PACKAGES = [path for path in PRODUCT if path.split(os.sep)[0] in MAY_IMPORT]


def test_the_walk_sees_the_program():
    assert packages() - MEASURE == set(MAY_IMPORT)
    folders = {os.path.dirname(path) for path in PRODUCT} - {''}
    assert folders >= packages() and {
        os.path.join(folder, '__init__.py') for folder in folders
    } <= set(PRODUCT)
    assert len(IN_PACKAGES) > 30
    assert {'config.flags', 'config.schema', 'training.choices'} <= imports('train.py')
    assert {'tensorflow.compat.v1', 'absl.flags'} <= imports('training/runtime.py') | imports(
        'config/flags.py'
    )


@every.case_of(IN_PACKAGES)
def test_imports_go_one_way(path):
    package = path.split(os.sep)[0]
    ours = top(imports(path)) & (packages() | set(MAINS) | {'tests'})
    assert ours - {package} <= set(MAY_IMPORT[package])


@every.case_of(
    path for path in PRODUCT if path.split(os.sep)[0] not in MEASURE
)  # MEASURE has separate mains
def test_flags_stop_at_the_door(path):
    absl = {module for module in imports(path) if module.split('.')[0] == 'absl'}
    assert bool(absl) == (path in SEE_FLAGS)
    assert not any(module.startswith('absl.app') for module in absl) or path == 'config/flags.py'
    assert 'tf.app' not in source(path) and 'tf.flags' not in source(path)


@every.case_of(PRODUCT)
def test_one_file_knows_the_versions_of_tensorflow(path):
    text = source(path)
    knows = re.findall(
        r'tf\.__version__|tensorflow.*__version__|IS_TF2|disable_v2_behavior|enable_resource_variables|'
        r'\bcontrib\b|tf\.VERSION|disable_eager_execution',
        text,
    )
    assert not knows or path == 'training/runtime.py'
    modules = {module for module in imports(path) if module.split('.')[0] == 'tensorflow'}
    modules -= {'tensorflow.compat'}
    if path == 'training/runtime.py':
        assert knows and modules - TENSORFLOW == OF_SOME_VERSIONS
    else:
        assert modules <= TENSORFLOW
    assert not re.search(r'import tensorflow(?!\.compat\.v1 as tf\b)', text)


def imports_in_order(path):
    """Returns the modules that a file imports outside of its functions, in order.

    For `from training import runtime`, that is 'training.runtime'.
    """
    nodes = [
        node
        for node in tree(path).body
        for node in ([node] + node.body if isinstance(node, ast.If) else [node])
    ]
    return [
        '.'.join(filter(None, [getattr(node, 'module', None), node.names[0].name]))
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]


def texts(path):
    """Yields the texts of a file that are no docstrings, and the ends of formatted ones."""
    apart = {id(node.value) for node in ast.walk(tree(path)) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree(path)):
        value = getattr(node, 'value', getattr(node, 's', None))  # `s` in Python 3.7
        if isinstance(value, str) and id(node) not in apart:
            yield value


@every.case_of(PRODUCT)
def test_one_file_names_the_collections(path):
    found = [text for text in texts(path) if re.search(rf'\.({"|".join(COLLECTIONS)})$', text)]
    assert len(found) == (len(COLLECTIONS) if path == 'database/place.py' else 0)


@pytest.mark.parametrize(
    'path', [name + '.py' for name in MAINS] + ['config/recipes.py', 'database/server.py']
)
def test_a_program_first_looks_for_missing_packages(path):
    assert imports_in_order(path)[0] == 'missing_packages'


@pytest.mark.parametrize('path', ['train.py', 'test.py', 'search.py'])
def test_a_main_then_prepares_tensorflow_or_does_without(path):
    assert imports_in_order(path)[1:3] == ['config.quick_help', 'training.runtime']


@every.case_of(CONFTESTS)
def test_a_conftest_first_prepares_tensorflow_or_does_without(path):
    """Otherwise, the tests of one folder would use other convolutions than a run of all tests."""
    loading = [name for name in imports_in_order(path) if name.split('.')[0] in LOADS_TENSORFLOW]
    assert loading[:1] in ([], ['training.runtime'])


def test_what_prepares_tensorflow_imports_nothing_of_ours():
    """Other modules might import TensorFlow before the environment is prepared."""
    assert not top(imports('training/runtime.py')) & (packages() | set(MAINS))


def defined(node, prefix=''):
    """Yields (name, node) for every public class, function and method."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef)) and not child.name.startswith('_'):
            yield prefix + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from defined(child, prefix + child.name + '.')


@every.case_of(PRODUCT)
def test_a_module_says_what_it_is(path):
    if path != 'setup.py':
        assert (ast.get_docstring(tree(path)) or '').strip()


def test_what_is_excepted_is_there():
    assert SEE_FLAGS <= set(PRODUCT)


@every.case_of(IN_PACKAGES)
def test_what_is_public_is_documented(path):
    nodes = dict(defined(tree(path)))
    told = {name for name, node in nodes.items() if (ast.get_docstring(node) or '').strip()}
    overriding = {
        f'{name}.{method}'
        for name, node in nodes.items()
        for base in getattr(node, 'bases', ())
        for owner, _, method in (other.rpartition('.') for other in told)
        if owner == getattr(base, 'id', None)
    }
    assert set(nodes) - told - overriding == set()


def size(function):
    """Returns (lines, statements) of a function, with its inner functions, without its docstring.

    Python 3.7 does not know where a statement ends. There, the line of the last expression counts
    as the last line.
    """
    docstring = ast.get_docstring(function, clean=False)
    nodes = list(ast.walk(function))
    last = max(getattr(node, 'end_lineno', getattr(node, 'lineno', 0)) for node in nodes)
    lines = last - function.lineno + 1
    statements = sum(isinstance(node, ast.stmt) for node in nodes) - 1
    if docstring is None:
        return lines, statements
    return lines - docstring.count('\n') - 1, statements - 1


def test_the_size_of_a_function():
    function = ast.parse(
        "def f(x):\n    '''One\n    two.\n    '''\n    if x:\n        def g():\n"
        '            return 1\n\n        return g\n    return None\n'
    ).body[0]
    assert size(function) == (7, 5) and size(function.body[1].body[0]) == (2, 1)


@every.case_of(PRODUCT)
def test_lines_and_functions_are_short(path):
    lines = source(path).splitlines()
    assert [number for number, line in enumerate(lines, 1) if len(line) > LONGEST_LINE] == []
    assert [
        number for number, line in enumerate(lines, 1) if line != line.rstrip() or '\t' in line
    ] == []
    sizes = [
        (node.name,) + size(node)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef)
    ]
    assert [
        (name, length, statements)
        for name, length, statements in sizes
        if length > LONGEST_FUNCTION or statements > MOST_STATEMENTS
    ] == []


@every.case_of(PRODUCT)
def test_no_loose_ends(path):
    assert not re.search(r'\b(TODO|FIXME|XXX)\b', source(path))
    caught = [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    asserted = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Assert)]
    assert caught == [] and asserted == []
