'use strict';
// Chosen runs side by side: in what their settings and environments differ, and their commands.

class Details {
  constructor(host, runs) {
    this.host = host;
    this.runs = runs;
    this.show();
  }

  show() {
    const places = [...this.runs.keys.keys()].filter((place) =>
      chosen.runs.has(this.runs.keys[place]),
    );
    if (!places.length) {
      this.host.replaceChildren(
        element(
          'p',
          {class: 'note how'},
          'Tick runs in the first column to see the command that makes each again, ' +
            'and in what several of them differ.',
        ),
      );
      return;
    }
    const tables =
      places.length < 2
        ? []
        : [
            ...this.side('Settings that differ', 'setting', places),
            ...this.side('Environments that differ', 'environment', places),
          ];
    this.host.replaceChildren(
      element(
        'div',
        {class: 'tools'},
        element(
          'button',
          {
            onclick: () => {
              chosen.runs.clear();
              document.querySelectorAll('td input[type=checkbox]').forEach((box) => {
                box.checked = false;
              });
              this.show();
            },
          },
          'Untick all',
        ),
      ),
      ...tables,
      ...places.map((place) => this.command(place)),
    );
  }

  side(title, kind, places) {
    const rows = this.runs.differing.filter(
      (fact) => fact.kind === kind && new Set(places.map((place) => fact.of[place])).size > 1,
    );
    if (!rows.length) return [element('h3', {}, title), element('p', {class: 'note'}, 'None.')];
    const cell = (fact, place) => {
      const text = fact.texts[fact.of[place]];
      if (fact.name !== 'cpu.flags') return text === '' ? '-' : text;
      const others = places.map((other) => fact.texts[fact.of[other]].split(' '));
      return (
        text
          .split(' ')
          .filter((word) => !others.every((words) => words.includes(word)))
          .join(' ') || '-'
      );
    };
    return [
      element('h3', {}, title),
      element(
        'div',
        {class: 'wide'},
        element(
          'table',
          {class: kind},
          element(
            'thead',
            {},
            element(
              'tr',
              {},
              element('th', {}, kind),
              places.map((place) => element('th', {}, this.runs.names[place])),
            ),
          ),
          element(
            'tbody',
            {},
            rows.map((fact) =>
              element(
                'tr',
                {},
                element('td', {}, fact.name),
                places
                  .map((place) => cell(fact, place))
                  .map((text) => element('td', {class: text.length > LONG ? 'long' : null}, text)),
              ),
            ),
          ),
        ),
      ),
    ];
  }

  command(place) {
    const lines = this.runs.commands.of[place].map((line) => this.runs.commands.lines[line]);
    const text = element('pre', {tabindex: '0'}, lines.join('\n'));
    const copy = element(
      'button',
      {
        onclick: async () => {
          getSelection().selectAllChildren(text);
          try {
            await navigator.clipboard.writeText(text.textContent);
            copy.textContent = 'Copied';
          } catch (error) {
            copy.textContent = document.execCommand('copy') ? 'Copied' : 'Selected: press Ctrl-C';
          }
        },
      },
      'Copy',
    );
    return element(
      'div',
      {},
      element('h3', {}, `Make ${this.runs.names[place]} again `, copy),
      this.runs.remarks[place].map((remark) => element('p', {class: 'note'}, remark)),
      text,
    );
  }
}
