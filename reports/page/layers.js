'use strict';
// Measures by layer: a heat map, layer by step, beside the curves of a chosen layer.

class Layers {
  constructor(section, data, curves) {
    this.section = section;
    this.grids = data.grids;
    this.curves = curves;
    this.measures = section.measures.filter((measure) => measure.isByLayer);
    this.map = new Figure('Layer by step', () => this.heat());
    this.one = new Figure('One layer', () => this.lines());
    this.tools = element('div', {class: 'tools'});
    this.showTools();
  }

  name(what) {
    return `${this.section.title} ${what}`;
  }

  showTools() {
    const changed = () => {
      this.showTools();
      this.map.refresh();
      this.one.refresh();
    };
    const measure = choice(
      'measure',
      this.name('measure'),
      this.measures.map((each) => ({value: each.name, text: each.title})),
      changed,
    );
    const there = [...this.section.members.keys()].filter((place) => this.measure().maps[place]);
    const group = choice(
      'group',
      this.name('group'),
      there.map((place) => ({value: place, text: short(this.section.members[place].label, 60)})),
      changed,
    );
    const layer = choice(
      'layer',
      this.name('layer'),
      this.shownMap()[0].map((each) => ({value: each, text: each})),
      changed,
    );
    this.tools.replaceChildren(
      measure,
      group,
      layer,
      element('span', {class: 'note how'}, 'A click on a row of the map chooses its layer.'),
    );
  }

  measure() {
    return this.measures.find((each) => each.name === chosen.selects[this.name('measure')]);
  }

  member() {
    return this.section.members[chosen.selects[this.name('group')]];
  }

  shownMap() {
    return this.measure().maps[chosen.selects[this.name('group')]];
  }

  heat() {
    const measure = this.measure(),
      [layers, grid, values] = this.shownMap();
    const all = measure.maps
      .filter(Boolean)
      .flatMap((map) => map[2].flat())
      .filter((value) => value !== null);
    const steps = this.grids[grid];
    const x = across(this.member(), steps, this.grids);
    const {ink} = theme();
    return {
      told:
        `${measure.title} of ${this.member().label}, layer by step: ` +
        layers.map((layer, row) => `${layer} ${ends(values[row])}`).join('; '),
      clicked: (point) => {
        chosen.selects[this.name('layer')] = this.shownMap()[0][point.pointNumber[0]];
        this.showTools();
        this.one.refresh();
      },
      traces: [
        {
          type: 'heatmap',
          x: x || steps,
          y: [...layers.keys()],
          z: values,
          colorscale: 'Viridis',
          zmin: Math.min(...all),
          zmax: Math.max(...all),
          customdata: layers.map((layer) => steps.map(() => inert(layer))),
          hovertemplate: `%{customdata}<br>${x ? X_TITLES[chosen.x] : 'step'} %{x}: %{z}<extra></extra>`,
          colorbar: {
            title: {text: inert(measure.label), side: 'right'},
            thickness: 12,
            outlinewidth: 0,
            tickfont: {color: ink},
          },
        },
      ],
      layout: layout({
        height: Math.min(Math.max(260, 70 + 15 * layers.length), 900),
        uirevision: [chosen.x, measure.name, this.member().label].join(),
        xaxis: axis(x ? X_TITLES[chosen.x] : 'step (no other unit is recorded)', {
          showgrid: false,
          zeroline: false,
        }),
        yaxis: axis('', {
          ...this.ticks(layers),
          range: [layers.length - 0.5, -0.5],
          showgrid: false,
          zeroline: false,
          nticks: 0,
        }),
      }),
    };
  }

  // The layers that the vertical axis names: as many as can be read.
  ticks(layers) {
    const every = Math.ceil(layers.length / 50);
    const places = [...layers.keys()].filter((place) => place % every === 0);
    return {
      tickvals: places,
      ticktext: places.map((place) => inert(short(layers[place], 24))),
      tickfont: {size: 10},
    };
  }

  lines() {
    const measure = this.measure(),
      wanted = chosen.selects[this.name('layer')];
    const traces = [],
      told = [];
    this.section.members.forEach((member, place) => {
      const map = measure.maps[place];
      const row = map ? map[0].indexOf(wanted) : -1;
      if (row < 0 || !this.curves.isShown(member)) return;
      const steps = this.grids[map[1]];
      const kept = [...steps.keys()].filter((at) => map[2][row][at] !== null);
      const x = across(
        member,
        kept.map((at) => steps[at]),
        this.grids,
      );
      if (!x || !kept.length) return;
      const values = kept.map((at) => map[2][row][at]);
      traces.push(line(member, x, values));
      told.push(`${member.label} from ${shown(values[0])} to ${shown(values[values.length - 1])}`);
    });
    return {
      traces,
      told: `${measure.title} of ${wanted}: ${told.join('; ')}`,
      layout: layout({
        height: 320,
        hovermode: traces.length > 8 ? 'closest' : 'x unified',
        uirevision: [chosen.x, measure.name, wanted].join(),
        xaxis: axis(X_TITLES[chosen.x], {type: chosen.logX ? 'log' : 'linear', zeroline: false}),
        yaxis: axis(`${measure.label}, ${short(wanted, 24)}`, {
          type: chosen.logY ? 'log' : 'linear',
          zeroline: false,
        }),
      }),
    };
  }
}
