'use strict';
// Tables that can be sorted, filtered, and shown with other columns.

const FIRST_ROWS = 200; // how many rows are shown at first
const LONG = 48; // characters of a text that is folded; numbers never are
const COMPARE = {
  '=': (one, other) => one === other,
  '!=': (one, other) => one !== other,
  '<': (one, other) => one < other,
  '<=': (one, other) => one <= other,
  '>': (one, other) => one > other,
  '>=': (one, other) => one >= other,
};

// Returns how two cells are sorted: run2 comes before run10.
const WORDS = new Intl.Collator('en', {numeric: true});
function order(one, other) {
  return typeof one === 'string' ? WORDS.compare(one, other) : one - other;
}

class Table {
  // host: the element to fill; name: under which its state is kept; data: {height, left, columns};
  // keys: of the rows that can be chosen, or null; choose: called when rows are chosen.
  constructor(host, name, data, keys = null, choose = null) {
    this.host = host;
    this.data = data;
    this.keys = keys;
    this.choose = choose;
    this.state = chosen.tables[name] = chosen.tables[name] || {
      sort: null,
      descending: false,
      filter: '',
      all: false,
      columns: new Set(
        data.columns.filter((column) => column.isUsual).map((column) => column.name),
      ),
    };
    this.body = element('div', {class: 'wide', tabindex: '0', role: 'region', 'aria-label': name});
    this.told = element('span', {role: 'status'});
    host.replaceChildren(this.tools(), this.body);
    this.show();
  }

  tools() {
    const filter = element('input', {
      type: 'search',
      value: this.state.filter,
      placeholder: this.hint(),
      'aria-label': 'Filter of the rows',
      oninput: () => {
        this.state.filter = filter.value;
        this.show();
      },
    });
    const boxes = this.data.columns.map((column) => {
      const box = element('input', {
        type: 'checkbox',
        checked: this.state.columns.has(column.name),
        value: column.name,
        onchange: () => {
          if (box.checked) this.state.columns.add(column.name);
          else this.state.columns.delete(column.name);
          this.show();
        },
      });
      return element('label', {}, box, ' ' + column.title);
    });
    return element(
      'div',
      {class: 'tools'},
      filter,
      this.told,
      element(
        'details',
        {},
        element('summary', {}, 'Columns'),
        element('div', {class: 'choices'}, boxes),
      ),
    );
  }

  hint() {
    const names = this.data.columns.map((column) => column.name);
    if (names.includes('seed')) return 'filter: mirror top1>0.9 seed=2';
    const result = names.find((name) => name === 'top1' || name === 'top1_mean');
    return `filter: a word, or ${result ? result + '>0.9' : 'images>2'}`;
  }

  // Returns the places of the rows that pass the filter, in the order of the table.
  rows() {
    const tests = this.state.filter
      .split(/\s+/)
      .filter(Boolean)
      .map((word) => this.test(word));
    let places = [...Array(this.data.height).keys()].filter((place) =>
      tests.every((test) => test(place)),
    );
    const column = this.data.columns.find((each) => each.name === this.state.sort);
    if (column) {
      const cell = (place) => (column.values ? column.values[place] : column.texts[place]);
      const isMissing = (place) => cell(place) === null || cell(place) === '-';
      const direction = this.state.descending ? -1 : 1;
      const there = places.filter((place) => !isMissing(place));
      there.sort((one, other) => direction * order(cell(one), cell(other)));
      places = there.concat(places.filter(isMissing)); // missing values come last in both directions
    }
    return places;
  }

  // Returns whether a row passes one word of the filter: 'top1>0.9', or a part of any cell.
  test(word) {
    const [, name, symbol, text] = /^(\w+)(<=|>=|!=|=|<|>)(.+)$/.exec(word) || [];
    const column = this.data.columns.find((each) => each.name === name || each.title === name);
    if (!column) {
      const part = word.toLowerCase();
      return (place) =>
        this.data.columns.some((each) => each.texts[place].toLowerCase().includes(part));
    }
    if (!column.values) return (place) => COMPARE[symbol](column.texts[place], text);
    return (place) =>
      column.values[place] !== null && COMPARE[symbol](column.values[place], Number(text));
  }

  sortBy(name) {
    this.state.descending = this.state.sort === name ? !this.state.descending : false;
    this.state.sort = name;
    this.show();
    this.body.querySelector(`th[data-name="${name}"] button`).focus();
  }

  show() {
    const columns = this.data.columns.filter((column) => this.state.columns.has(column.name));
    const rows = this.rows();
    const some = this.state.all ? rows : rows.slice(0, FIRST_ROWS);
    const head = columns.map((column) =>
      element(
        'th',
        {
          'data-name': column.name,
          scope: 'col',
          class: column.isText ? null : 'n',
          'aria-sort':
            this.state.sort !== column.name
              ? null
              : this.state.descending
                ? 'descending'
                : 'ascending',
        },
        element('button', {onclick: () => this.sortBy(column.name)}, column.title),
      ),
    );
    this.body.replaceChildren(
      element(
        'table',
        {},
        element('thead', {}, element('tr', {}, head)),
        element(
          'tbody',
          {},
          some.map((place) => this.row(place, columns)),
        ),
      ),
    );
    const left = this.data.left
      ? ` (${shown(this.data.left)} more are not on this page: use --where)`
      : '';
    this.told.textContent = `${shown(rows.length)} of ${shown(this.data.height)} rows${left}`;
    if (some.length < rows.length) {
      this.body.append(
        element(
          'button',
          {
            onclick: () => {
              this.state.all = true;
              this.show();
            },
          },
          `Show all ${shown(rows.length)} rows`,
        ),
      );
    }
  }

  row(place, columns) {
    const cells = columns.map((column) => {
      const text = column.texts[place];
      const kind =
        column.name === 'state'
          ? text.split(' ')[0]
          : !column.isText
            ? 'n'
            : text.length > LONG
              ? 'long'
              : null;
      if (kind !== 'long') return element('td', {class: kind}, text);
      return element('td', {class: kind, title: text}, element('div', {}, text));
    });
    if (this.keys) {
      const box = element('input', {
        type: 'checkbox',
        checked: chosen.runs.has(this.keys[place]),
        'aria-label': 'Compare this run',
        onchange: () => {
          if (box.checked) chosen.runs.add(this.keys[place]);
          else chosen.runs.delete(this.keys[place]);
          this.choose();
        },
      });
      if (cells.length) cells[0].prepend(box, ' ');
    }
    return element('tr', {}, cells);
  }
}
