'use strict';
// Learning curves: a figure for each measure, with the mean of each group and its seeds.

const X_TITLES = {steps: 'step', epochs: 'epoch', images: 'images', hours: 'hours of training'};

// Returns the places of steps on the chosen horizontal axis, or null if they are not recorded.
function across(member, steps, grids) {
  if (chosen.x === 'epochs')
    return member.stepsPerEpoch ? steps.map((step) => step / member.stepsPerEpoch) : null;
  if (chosen.x === 'images')
    return member.batchSize ? steps.map((step) => step * member.batchSize) : null;
  if (chosen.x === 'hours') {
    const known = grids[member.hours[0]];
    return known.length > 1 ? steps.map((step) => between(step, known, member.hours[1])) : null;
  }
  return steps;
}

// Returns a value between those of the two nearest places; null outside of all.
function between(at, places, values) {
  const next = places.findIndex((place) => place >= at);
  if (next < 0) return null;
  if (next === 0 || places[next] === at) return at < places[0] ? null : values[next];
  const part = (at - places[next - 1]) / (places[next] - places[next - 1]);
  return values[next - 1] + part * (values[next] - values[next - 1]);
}

// Returns an exponential moving average, without the bias towards the first value.
function smoothed(values) {
  const weight = chosen.smoothing;
  let sum = 0,
    share = 0;
  return values.map((value) => {
    sum = weight * sum + (1 - weight) * value;
    share = weight * share + (1 - weight);
    return sum / share;
  });
}

// Leaves out what a logarithmic axis cannot show.
function positive(x, values) {
  const kept = [...x.keys()].filter(
    (place) =>
      x[place] !== null && (!chosen.logX || x[place] > 0) && (!chosen.logY || values[place] > 0),
  );
  return [kept.map((place) => x[place]), kept.map((place) => values[place])];
}

function line(member, x, values, more = {}) {
  const [shownX, shownY] = positive(x, smoothed(values));
  return {
    type: 'scatter',
    x: shownX,
    y: shownY,
    name: inert(member.label),
    mode: shownX.length < 30 ? 'lines+markers' : 'lines',
    line: {color: member.colour, dash: member.dash, width: 2},
    marker: {color: member.colour, symbol: member.symbol, size: 6},
    hoverlabel: {font: {color: theme().ink}},
    ...more,
  };
}

// The band of one standard deviation around a mean.
function bandOf(member, x, mean, std) {
  const low = smoothed(mean.map((value, place) => value - std[place]));
  const high = smoothed(mean.map((value, place) => value + std[place]));
  const least = Math.min(...mean.filter((value) => value > 0));
  const kept = [...x.keys()].filter(
    (place) =>
      x[place] !== null && (!chosen.logX || x[place] > 0) && (!chosen.logY || high[place] > 0),
  );
  const lower = (place) => (chosen.logY ? Math.max(low[place], least / 100) : low[place]);
  const back = [...kept].reverse();
  return {
    type: 'scatter',
    x: kept.concat(back).map((place) => x[place]),
    y: kept.map((place) => high[place]).concat(back.map(lower)),
    mode: 'lines',
    line: {width: 0},
    fill: 'toself',
    fillcolor: member.colour + '33',
    hoverinfo: 'skip',
    name: inert(member.label),
  };
}

class Curves {
  constructor(section, data) {
    this.section = section;
    this.grids = data.grids;
    this.legend = element('div', {class: 'legend', role: 'group', 'aria-label': 'Series'});
    this.showLegend();
  }

  key(member) {
    return `${this.section.title} / ${member.label}`;
  }

  isShown(member) {
    return !chosen.hidden.has(this.key(member));
  }

  // The series of the section. A click hides one or shows it again, and a double click shows it alone.
  showLegend() {
    const drawn = this.section.members.filter((member) => member.runs.length);
    this.legend.replaceChildren(
      ...drawn.map((member) => {
        const seeds = member.runs.filter((run) => run.isCounted).length;
        const more =
          seeds < member.complete
            ? `, ${seeds} of ${member.complete} seeds`
            : seeds > 1
              ? `, ${seeds} seeds`
              : '';
        return element(
          'button',
          {
            'aria-pressed': String(this.isShown(member)),
            'data-label': member.label,
            title: 'click: hide or show; double click: show alone',
            onclick: () => {
              if (this.isShown(member)) chosen.hidden.add(this.key(member));
              else chosen.hidden.delete(this.key(member));
              this.changed();
            },
            ondblclick: () => {
              drawn.forEach((other) => chosen.hidden.add(this.key(other)));
              chosen.hidden.delete(this.key(member));
              this.changed();
            },
          },
          swatch(member),
          `${short(member.label, 60)}${more}`,
        );
      }),
    );
  }

  changed() {
    this.showLegend();
    Figure.refreshAll();
  }

  figures() {
    return this.section.measures.map(
      (measure) =>
        new Figure(measure.title + (measure.isByLayer ? ', mean of layers' : ''), () =>
          this.drawn(measure),
        ),
    );
  }

  drawn(measure) {
    const traces = [],
      told = [];
    let missing = 0;
    this.section.members.forEach((member, place) => {
      const mean = measure.means[place];
      if (!this.isShown(member) || !member.runs.length) return;
      if (mean) {
        const [grid, values, std, n] = mean;
        const x = across(member, this.grids[grid], this.grids);
        if (!x) {
          missing += 1;
          return;
        }
        if (std && chosen.band) traces.push(bandOf(member, x, values, std));
        traces.push(line(member, x, values));
        told.push(`${member.label}${n > 1 ? ` (mean of ${n} seeds)` : ''} ${ends(values)}`);
      }
      if (chosen.seeds) traces.push(...this.seeds(member, measure.seeds[place]));
    });
    const lines = traces.filter((trace) => trace.hoverinfo !== 'skip').length;
    const lacking = missing ? `; ${missing} without ${chosen.x} in their records are left out` : '';
    return {
      traces,
      told: `${measure.title} over ${chosen.x}: ${told.join('; ')}${lacking}`,
      layout: layout({
        xaxis: axis(X_TITLES[chosen.x] + (missing ? ` (${missing} series do not record it)` : ''), {
          type: chosen.logX ? 'log' : 'linear',
          zeroline: false,
        }),
        yaxis: axis(measure.label, {type: chosen.logY ? 'log' : 'linear', zeroline: false}),
        hovermode: lines > 8 ? 'closest' : 'x unified',
        uirevision: [chosen.x, chosen.logX, chosen.logY].join(),
      }),
    };
  }

  seeds(member, curves) {
    return curves
      .map((curve, place) => {
        const x = curve && across(member, this.grids[curve[0]], this.grids);
        if (!x) return null;
        const run = member.runs[place];
        return line(member, x, curve[1], {
          mode: 'lines',
          opacity: 0.6,
          name: inert(run.name),
          line: {color: member.colour, width: 1, dash: run.isCounted ? 'solid' : 'dot'},
        });
      })
      .filter(Boolean);
  }
}

// A picture of how a series is drawn.
function swatch(member) {
  const space = 'http://www.w3.org/2000/svg';
  const picture = document.createElementNS(space, 'svg');
  const dashes = {solid: '', dash: '6 3', dot: '2 2', dashdot: '6 2 2 2'};
  const paths = {
    circle: 'M17 6a3.5 3.5 0 1 1-7 0a3.5 3.5 0 1 1 7 0',
    square: 'M10.500 3h6v6h-6z',
    diamond: 'M13.500 2l4 4l-4 4l-4-4z',
    'triangle-up': 'M13.500 2l4 7h-8z',
  };
  picture.setAttribute('width', '27');
  picture.setAttribute('height', '12');
  picture.setAttribute('aria-hidden', 'true');
  for (const [path, fill] of [
    ['M0 6h27', 'none'],
    [paths[member.symbol], member.colour],
  ]) {
    const drawn = document.createElementNS(space, 'path');
    drawn.setAttribute('d', path);
    drawn.setAttribute('stroke', member.colour);
    drawn.setAttribute('stroke-width', '2');
    drawn.setAttribute('fill', fill);
    if (fill === 'none') drawn.setAttribute('stroke-dasharray', dashes[member.dash]);
    picture.append(drawn);
  }
  return picture;
}
