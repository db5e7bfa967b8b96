'use strict';
// Final results of groups: a point for each seed, the mean with its interval, baselines as lines.

const byValue = (one, other) => one - other;
const SMALL_IS_GOOD = ['loss', 'weight_angle', 'projection_angle', 'gradient_angle'];

class Compared {
  constructor(section, names, curves) {
    this.section = section;
    this.names = names; // {name of a column: its title}
    this.curves = curves;
    this.figure = new Figure('Final results: each seed, the mean and its 95 % interval', () =>
      this.drawn(),
    );
    this.tools = element(
      'div',
      {class: 'tools'},
      choice(
        'result',
        `${section.title} compared`,
        section.compared.map((each) => ({value: each.name, text: names[each.name] || each.name})),
        () => this.figure.refresh(),
      ),
    );
  }

  drawn() {
    const result = this.section.compared.find(
      (each) => each.name === chosen.selects[`${this.section.title} compared`],
    );
    const sign = SMALL_IS_GOOD.includes(result.name) ? -1 : 1;
    const rows = this.section.members
      .map((member, place) => ({member, ...result.of[place]}))
      .filter(
        (row) =>
          row.values.some((value) => value !== null) &&
          (!row.member.runs.length || this.curves.isShown(row.member)),
      );
    rows.sort((one, other) => sign * ((one.mean ?? -Infinity) - (other.mean ?? -Infinity)));
    const traces = rows.flatMap((row, height) => this.row(row, height));
    const title = this.names[result.name] || result.name;
    const {soft} = theme();
    const width = this.figure.plot.clientWidth;
    const letters = width > 900 ? 72 : width > 500 ? 36 : 20;
    const lines = rows.filter(
      (row) => this.section.baselines.includes(row.member.rule) && row.mean !== null,
    );
    const told = [...rows]
      .reverse()
      .map((row) => `${row.member.label} ${shown(row.mean)} (${row.values.length} seeds)`)
      .join('; ');
    return {
      traces,
      told: `mean ${title} of each group: ${told}`,
      layout: layout({
        height: Math.max(220, 90 + 24 * rows.length),
        hovermode: 'closest',
        uirevision: result.name,
        margin: {l: 20, r: 12, t: 20, b: 42},
        xaxis: axis(title, {zeroline: false, ...this.range(rows)}),
        yaxis: axis('', {
          tickvals: rows.map((_, height) => height),
          ticktext: rows.map((row) => inert(short(row.member.label, letters))),
          range: [-0.7, rows.length - 0.3],
          zeroline: false,
          nticks: 0,
        }),
        shapes: lines.map((row) => ({
          type: 'line',
          x0: row.mean,
          x1: row.mean,
          yref: 'paper',
          y0: 0,
          y1: 1,
          line: {color: row.member.colour, dash: 'dash', width: 1},
          label: {
            text: inert(short(row.member.label, 20)),
            textposition: 'end',
            textangle: 0,
            yanchor: 'bottom',
            font: {size: 10, color: soft},
          },
        })),
      }),
    };
  }

  // Around a single value, the axis would else reach from one below it to one above. The interval
  // of two seeds that differ can be many times as wide as all values, and is cut off.
  range(rows) {
    const values = rows.flatMap((row) => row.values).filter((value) => value !== null);
    const least = Math.min(...values);
    const most = Math.max(...values);
    if (least === most) return least ? {range: [0.9 * least, 1.1 * least].sort(byValue)} : {};
    const margin = 0.5 * (most - least);
    const ends = rows.filter((row) => row.low !== null);
    const low = Math.min(least, ...ends.map((row) => row.low));
    const high = Math.max(most, ...ends.map((row) => row.high));
    if (low > least - margin && high < most + margin) return {};
    return {
      range: [
        Math.max(low, least - margin, least < 0 ? -Infinity : 0),
        Math.min(high, most + margin),
      ],
    };
  }

  row({member, values, seeds, mean, low, high}, height) {
    const {ink} = theme();
    const points = {
      type: 'scatter',
      mode: 'markers',
      x: values,
      y: values.map(() => height),
      name: inert(member.label),
      opacity: 0.65,
      marker: {color: member.colour, symbol: member.symbol, size: 9},
      customdata: seeds.map((seed) => (seed === null ? '?' : seed)),
      hovertemplate: 'seed %{customdata}: %{x}<extra></extra>',
    };
    if (mean === null || low === null) return [points];
    return [
      points,
      {
        type: 'scatter',
        mode: 'markers',
        x: [mean],
        y: [height],
        marker: {color: ink, symbol: 'line-ns-open', size: 12},
        error_x: {
          type: 'data',
          symmetric: false,
          array: [high - mean],
          arrayminus: [mean - low],
          color: ink,
          thickness: 1.5,
          width: 4,
        },
        hovertemplate:
          `mean of ${values.length} seeds: %{x:.5~g} ` +
          `(${shown(low)} to ${shown(high)})<extra></extra>`,
      },
    ];
  }
}
