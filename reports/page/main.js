'use strict';
// Builds the page from its data, and builds it again when a server has new data.

function toolbar(data) {
  const redraw = () => Figure.refreshAll();
  const x = element(
    'select',
    {
      name: 'x',
      onchange: () => {
        chosen.x = x.value;
        redraw();
      },
    },
    Object.keys(X_TITLES).map((unit) =>
      element('option', {value: unit, selected: unit === chosen.x}, unit),
    ),
  );
  const told = element('output', {}, chosen.smoothing.toFixed(2));
  const smoothing = element('input', {
    type: 'range',
    name: 'smoothing',
    min: '0',
    max: '0.99',
    step: '0.01',
    value: chosen.smoothing,
    oninput: () => {
      chosen.smoothing = Number(smoothing.value);
      told.textContent = chosen.smoothing.toFixed(2);
      redraw();
    },
  });
  return element(
    'div',
    {class: 'tools bar'},
    element('label', {}, 'horizontal axis ', x),
    checkbox('log x', 'logX', redraw),
    checkbox('log y', 'logY', redraw),
    element('label', {}, 'smoothing ', smoothing, ' ', told),
    checkbox('each seed', 'seeds', redraw),
    checkbox('band', 'band', redraw),
  );
}

function sectionOf(section, data, names, place) {
  const curves = new Curves(section, data);
  const parts = [element('h2', {id: `section${place}`}, section.title)];
  if (section.members.some((member) => member.runs.length)) parts.push(curves.legend);
  if (section.compared.length) {
    const compared = new Compared(section, names, curves);
    parts.push(element('h3', {}, 'Comparison'), compared.tools, compared.figure.host);
  }
  const left = section.members.filter((member) => !member.runs.length).length;
  if (left)
    parts.push(
      element(
        'p',
        {class: 'note'},
        `The curves of ${shown(left)} older groups are not drawn (--most).`,
      ),
    );
  if (!section.measures.length) {
    parts.push(element('p', {class: 'note'}, 'There is nothing to plot yet.'));
    return parts;
  }
  parts.push(
    element('h3', {}, 'Curves'),
    element(
      'p',
      {class: 'note'},
      'A line is the mean over the seeds of a group that are complete (or all, if none is), ' +
        'where each of them has a value; its band is one standard deviation.',
      element('span', {class: 'how'}, ' Drag to zoom, double-click to see all.'),
    ),
    element(
      'div',
      {class: 'plots'},
      curves.figures().map((figure) => figure.host),
    ),
  );
  if (section.measures.some((measure) => measure.isByLayer)) {
    const layers = new Layers(section, data, curves);
    parts.push(
      element('h3', {}, 'By layer'),
      layers.tools,
      element('div', {class: 'beside'}, layers.map.host, layers.one.host),
    );
  }
  return parts;
}

function searchOf(data, place) {
  const search = new Search(data);
  const table = element('div');
  new Table(table, `trials of ${data.title}`, search.table());
  return [
    element('h2', {id: `search${place}`}, data.title),
    search.legend(),
    element(
      'div',
      {class: 'plots'},
      search.figures().map((figure) => figure.host),
    ),
    table,
  ];
}

function build(data) {
  Figure.forget();
  const live = document.getElementById('live');
  const parts = [
    element('h1', {}, data.title),
    element('p', {class: 'note', id: 'note'}, data.note),
    element('p', {class: 'note', id: 'status', role: 'status'}),
  ];
  const link = (id, text) => element('a', {href: '#' + id}, text);
  if (!data.runs.names.length) {
    live.replaceChildren(...parts, element('p', {}, 'There are no runs yet.'));
    return;
  }
  const details = element('div'),
    names = {};
  const hasClasses = data.classes.runs.length + data.classes.notes.length > 0;
  const shownDetails = new Details(details, data.runs);
  parts.push(
    element(
      'nav',
      {'aria-label': 'Parts of the page'},
      data.tables.map((table) => link(table.name, table.title)),
      data.sections.map((section, place) => link(`section${place}`, short(section.title))),
      hasClasses ? link('classes', 'Classes') : null,
      data.searches.map((search, place) => link(`search${place}`, 'Search ' + short(search.study))),
    ),
  );
  for (const table of data.tables) {
    const host = element('div');
    for (const column of table.columns) names[column.name] = names[column.name] || column.title;
    new Table(host, table.name, table, table.name === 'runs' ? data.runs.keys : null, () =>
      shownDetails.show(),
    );
    parts.push(
      element('h2', {id: table.name}, table.title),
      host,
      ...table.notes.map((note) => element('p', {class: 'note'}, note)),
    );
    if (table.name === 'runs') parts.push(details);
  }
  if (data.sections.length > 1) {
    parts.push(
      element(
        'p',
        {class: 'note'},
        'The runs differ in data set, network or image size: they are drawn in ' +
          `${data.sections.length} parts, which must not be compared with each other.`,
      ),
    );
  }
  if (data.sections.length) parts.push(toolbar(data));
  parts.push(
    ...data.sections.flatMap((section, place) => sectionOf(section, data, names, place)),
    ...(hasClasses ? new Classes(data).parts() : []),
    ...data.searches.flatMap((search, place) => searchOf(search, place)),
  );
  live.replaceChildren(...parts);
}

const written = JSON.parse(document.getElementById('data').textContent);
document.documentElement.classList.add('live');
build(written);
if (written.served) {
  // What decides whether the page is built again: all but the note, which has the time.
  const content = (data) => JSON.stringify({...data, note: ''});
  let last = content(written);
  setInterval(async () => {
    const status = document.getElementById('status');
    try {
      const data = await (await fetch('data.json', {cache: 'no-store'})).json();
      const isBusy = document.querySelector('input[type=search]:focus, details[open]');
      document.getElementById('note').textContent = data.note;
      status.textContent = '';
      if (isBusy || content(data) === last) return;
      last = content(data);
      const at = scrollY;
      const focused = document.activeElement.getAttribute('name');
      build(data);
      scrollTo(0, at);
      if (focused) document.getElementsByName(focused)[0]?.focus({preventScroll: true});
    } catch (error) {
      status.textContent = 'The server does not answer: these are the newest data that it sent.';
    }
  }, 1000 * written.served);
}
