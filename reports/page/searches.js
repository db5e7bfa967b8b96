'use strict';
// A search: its trials, and every setting against top-1 with its importance.

// How trials of a state are drawn. Grey and open are those without a final value.
const STATES = {
  complete: {color: '#0072b2', symbol: 'circle'},
  pruned: {color: '#e69f00', symbol: 'triangle-down-open'},
  lost: {color: '#d55e00', symbol: 'x'},
  failed: {color: '#cc79a7', symbol: 'square-open'},
  running: {color: '#6b6b6b', symbol: 'diamond-open'},
};
const WIDE = 30; // values that differ by this factor are drawn on a logarithmic axis

class Search {
  constructor(search) {
    this.search = search;
    this.states = [...new Set(search.trials.states)].sort();
  }

  // The points of each state, at the given places of the trials.
  points(x) {
    const {states, top1, flags, numbers} = this.search.trials;
    return this.states.map((state) => {
      const own = [...states.keys()].filter(
        (place) => states[place] === state && x[place] !== null && top1[place] !== null,
      );
      return {
        type: 'scatter',
        mode: 'markers',
        name: inert(state),
        x: own.map((place) => x[place]),
        y: own.map((place) => top1[place]),
        marker: {size: 8, ...(STATES[state] || {color: '#009e73', symbol: 'star'})},
        text: own.map((place) =>
          inert(
            `trial ${numbers[place]}, ${state}, top-1 ${shown(top1[place])}: ${short(flags[place], 160)}`,
          ),
        ),
        hovertemplate: '%{text}<extra></extra>',
      };
    });
  }

  legend() {
    const counts = (state) => this.search.trials.states.filter((other) => other === state).length;
    return element(
      'p',
      {class: 'note'},
      'Trials: ' +
        this.states
          .map(
            (state) =>
              `${counts(state)} ${state} (${(STATES[state] || {symbol: 'star'}).symbol.replace(/-/g, ' ')})`,
          )
          .join(', ') +
        '. Pruned trials were stopped early and have the top-1 of their last validation.',
    );
  }

  figures() {
    const figures = [new Figure('Top-1 of each trial', () => this.trials())];
    if (this.search.settings.some((setting) => setting.importance !== null)) {
      figures.push(new Figure('Importance of each setting (PED-ANOVA)', () => this.importance()));
    }
    return figures.concat(
      this.search.settings.map(
        (setting) => new Figure(`${setting.name} and top-1`, () => this.setting(setting)),
      ),
    );
  }

  trials() {
    const {numbers, top1, states} = this.search.trials;
    let best = null;
    const reached = top1.map((value) => {
      best = value === null ? best : Math.max(best ?? value, value);
      return best;
    });
    return {
      told: `top-1 of ${numbers.length} trials; the best is ${shown(best)}; states: ${this.states.join(', ')}`,
      traces: [
        ...this.points(numbers),
        {
          type: 'scatter',
          mode: 'lines',
          x: numbers,
          y: reached,
          name: 'best so far',
          line: {shape: 'hv', color: theme().soft, width: 1},
          hoverinfo: 'skip',
        },
      ],
      layout: layout({
        xaxis: axis('trial', {zeroline: false}),
        yaxis: axis('top-1', {zeroline: false}),
        hovermode: 'closest',
      }),
    };
  }

  importance() {
    const known = this.search.settings
      .filter((setting) => setting.importance !== null)
      .sort((one, other) => one.importance - other.importance);
    return {
      told:
        'importance: ' +
        known.map((setting) => `${setting.name} ${shown(setting.importance)}`).join('; '),
      traces: [
        {
          type: 'bar',
          orientation: 'h',
          x: known.map((setting) => setting.importance),
          y: known.map((setting) => inert(setting.name)),
          marker: {color: '#0072b2'},
          hovertemplate: '%{y}: %{x:.3f}<extra></extra>',
        },
      ],
      layout: layout({
        xaxis: axis('share of the importance', {range: [0, 1]}),
        yaxis: axis('', {type: 'category'}),
        hovermode: 'closest',
      }),
    };
  }

  setting(setting) {
    const numbers = setting.values.filter((value) => value !== null);
    const isNumeric = numbers.every((value) => typeof value === 'number');
    const isWide =
      isNumeric && Math.min(...numbers) > 0 && Math.max(...numbers) / Math.min(...numbers) > WIDE;
    const values = isNumeric
      ? setting.values
      : setting.values.map((value) => (value === null ? null : inert(value)));
    return {
      told: `top-1 of each trial over ${setting.name}`,
      traces: this.points(values),
      layout: layout({
        xaxis: axis(setting.name, {
          type: isWide ? 'log' : isNumeric ? 'linear' : 'category',
          zeroline: false,
        }),
        yaxis: axis('top-1', {zeroline: false}),
        hovermode: 'closest',
      }),
    };
  }

  table() {
    const {numbers, states, top1, flags} = this.search.trials;
    const column = (name, title, values, texts) => ({
      name,
      title,
      isText: !values,
      isUsual: true,
      values,
      texts,
    });
    return {
      height: numbers.length,
      left: 0,
      columns: [
        column('trial', 'trial', numbers, numbers.map(String)),
        column(
          'top1',
          'top-1',
          top1,
          top1.map((value) => (value === null ? '-' : value.toFixed(4))),
        ),
        column('state', 'state', null, states),
        column('settings', 'settings', null, flags),
      ],
    };
  }
}
