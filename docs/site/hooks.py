"""Hooks of MkDocs: pages from outside docs/, the API reference, the navigation, and MathJax.

The pages stay as they are read in the repository; what differs on the site is changed here.
"""

import importlib.util
import os
import posixpath
import re

from mkdocs.structure.files import File

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUTSIDE = {
    'README.md': 'readme.md',
    'CONTRIBUTING.md': 'contributing.md',
    'CHANGELOG.md': 'changelog.md',
    'SECURITY.md': 'security.md',
}
PACKAGES = (
    'alignment',
    'models',
    'data',
    'training',
    'training/devices',
    'training/tfutils',
    'database',
    'config',
    'reports',
    'reports/page',
    'manage',
    'experiments',
)
INDEX = 'README.md'  # of docs/, which is also the order of the pages
FENCE = re.compile(r'(?ms)^(```|\$\$).*?^\1 *$|`[^`\n]+`')
# A line of a paragraph before the first line of a list or a table.
BEGINS = re.compile(
    r'(?m)^(?![ \t]*(?:[-*|]|\d+\. |$|    ))(.+)\n(?=- |\* |1\. |\|.*\n\|[-: |]+\n)'
)
LINK = re.compile(r'(\[[^\]\n]*\])\(([^)\s#]*)(#[^)\s]*)?\)')


def read(path):
    """The text of a file in the repository."""
    with open(os.path.join(ROOT, path), encoding='utf-8') as file:
        return file.read()


def title(text):
    """The first heading of a page, without marks."""
    return re.sub('`', '', re.search(r'(?m)^# (.*)$', text).group(1))


def modules(package):
    """The modules of a package that have names for others."""
    names = sorted(os.listdir(os.path.join(ROOT, package)))
    found = [
        name[: -len('.py')] for name in names if name.endswith('.py') and name != '__init__.py'
    ]
    return [
        f'{package}.{name}'.replace('/', '.')
        for name in found
        if re.search(r'(?m)^(def|class) [a-zA-Z]', read(f'{package}/{name}.py'))
    ]


def reference(package):
    """The page of the API reference for a package."""
    name = package.replace('/', '.')
    lines = [
        f'# {name}',
        '',
        f'::: {name}',
        '    options: {members: false, show_root_heading: false}',
    ]
    for module in modules(package):
        lines += ['', f'## {module}', '', f'::: {module}']
        lines += ['    options: {show_root_heading: false, show_root_toc_entry: false}']
    return '\n'.join(lines) + '\n'


def pages():
    """The pages of docs/, by their names."""
    return sorted(name for name in os.listdir(os.path.join(ROOT, 'docs')) if name.endswith('.md'))


def navigation():
    """The navigation: the sections of the index of docs/, then the pages that it does not name."""
    there, sections, used = pages(), [], {INDEX}
    if INDEX in there:
        for section in re.split(r'(?m)^## ', read('docs/' + INDEX))[1:]:
            named = re.findall(r'\]\((?:\.\./)?([\w-]+\.md)\)', section)
            chosen = [name for name in named if name in there or name in OUTSIDE]
            used.update(chosen)
            entries = [{_title(name): OUTSIDE.get(name, name)} for name in chosen]
            if entries:
                sections.append({section.splitlines()[0]: entries})
    rest = [name for name in [*there, *OUTSIDE] if name not in used and name != 'README.md']
    if rest:
        sections.append({'More': [{_title(name): OUTSIDE.get(name, name)} for name in rest]})
    start = [{'Documentation': INDEX}] if INDEX in there else []
    api = [
        {package.replace('/', '.'): f'api/{package.replace("/", ".")}.md'} for package in PACKAGES
    ]
    return [{'Read me': 'readme.md'}, *start, *sections, {'API': api}]


def _title(name):
    return title(read(name if name in OUTSIDE else 'docs/' + name))


def on_config(config):
    """Sets the navigation; a site without an index in docs/ begins with the README."""
    if INDEX not in pages():
        OUTSIDE['README.md'] = 'index.md'
    config.nav = navigation()
    if INDEX not in pages():
        config.nav[0] = {'Read me': 'index.md'}
    return config


def on_files(files, config):
    """Adds the pages from outside docs/, the API reference and MathJax."""
    for path, name in OUTSIDE.items():
        files.append(File.generated(config, name, content=read(path)))
    for package in PACKAGES:
        name = f'api/{package.replace("/", ".")}.md'
        files.append(File.generated(config, name, content=reference(package)))
    (place,) = importlib.util.find_spec('mathjax').submodule_search_locations
    script = os.path.join(place, 'static', 'mathjax', 'es5', 'tex-svg.js')
    files.append(File.generated(config, 'site/mathjax.js', abs_src_path=script))
    return files


def on_page_markdown(markdown, page, **_):
    """Changes links between files of the repository into those between pages of the site."""
    uri = page.file.src_uri
    if uri.startswith('api/'):
        return markdown
    source = {name: path for path, name in OUTSIDE.items()}.get(uri, 'docs/' + uri)
    kept = []

    def keep(match):
        kept.append(match.group())
        return f'\0{len(kept) - 1}\0'

    def link(match):
        text, target, anchor = match.group(1), match.group(2), match.group(3) or ''
        if not target or re.match(r'[a-z]+:', target):
            return match.group()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        there = OUTSIDE.get(path) or (path[len('docs/') :] if path.startswith('docs/') else None)
        if there is None:  # a file of the code: the site does not hold it
            return text[1:-1]
        return f'{text}({posixpath.relpath(there, posixpath.dirname(uri) or ".")}{anchor})'

    text = LINK.sub(link, re.sub(FENCE, keep, markdown))
    # Other than on GitHub, a list or a table begins only after an empty line.
    return re.sub(
        '\0(\\d+)\0', lambda match: kept[int(match.group(1))], BEGINS.sub(r'\1\n\n', text)
    )
