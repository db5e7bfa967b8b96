'use strict';
// Results by class of a run: top-1, confusions, and the images that are most surely wrong.

const SHARES = [0, 0.01, 0.1, 0.25, 0.5, 1]; // of the images of a label; what colours stand for
const MOST_TICKS = 50; // classes that an axis names
const MOST_COUNTS = 20; // classes whose confusions are written as numbers, too

class Classes {
  constructor(data) {
    this.data = data.classes;
    this.bars = new Figure('Top-1 by class', () => this.top1());
    this.map = new Figure('Confusions', () => this.confusions());
    this.body = element('div');
    if (!this.data.runs.some((run) => run.key === chosen.selects['run of the classes']))
      chosen.selects['run of the classes'] = this.data.first;
    this.tools = element(
      'div',
      {class: 'tools'},
      choice(
        'run',
        'run of the classes',
        this.data.runs.map((run) => ({value: run.key, text: short(run.name, 60)})),
        () => this.show(),
      ),
      choice(
        'order',
        'order of the classes',
        [
          {value: 'recorded', text: 'as recorded'},
          {value: 'least', text: 'least top-1 first'},
        ],
        () => this.bars.refresh(),
      ),
    );
    this.show();
  }

  parts() {
    return [
      element('h2', {id: 'classes'}, 'Classes'),
      ...this.data.notes.map((note) => element('p', {class: 'note'}, note)),
      ...(this.data.runs.length ? [this.tools, this.body] : []),
    ];
  }

  run() {
    return this.data.runs.find((run) => run.key === chosen.selects['run of the classes']);
  }

  names() {
    return this.data.names[this.run().names];
  }

  show() {
    const run = this.run();
    if (!run) return;
    const names = this.names();
    this.map.host.hidden = !run.matrix;
    const classes = element('div'),
      confusions = element('div');
    new Table(classes, 'classes', {
      height: names.length,
      left: 0,
      columns: [
        wordColumn('class', names),
        numberColumn('images', 'images', run.images),
        numberColumn('top1', 'top-1', run.top1, (value) => value.toFixed(4)),
      ],
    });
    new Table(confusions, 'confusions', {
      height: run.largest.length,
      left: 0,
      columns: [
        wordColumn(
          'label',
          run.largest.map((each) => names[each[0]]),
        ),
        wordColumn(
          'answer',
          run.largest.map((each) => names[each[1]]),
        ),
        numberColumn(
          'images',
          'images',
          run.largest.map((each) => each[2]),
        ),
      ],
    });
    this.body.replaceChildren(
      element('p', {class: 'note'}, `${run.name}: ${run.told}`),
      element('div', {class: 'beside'}, this.bars.host, this.map.host),
      element('h3', {}, 'The images that are most surely wrong'),
      run.mistakes.length
        ? element(
            'ul',
            {class: 'mistakes'},
            run.mistakes.map(([source, alt, caption]) =>
              element('li', {}, element('img', {src: source, alt}), element('span', {}, caption)),
            ),
          )
        : element('p', {class: 'note'}, 'None is shown.'),
      ...run.notes.map((note) => element('p', {class: 'note'}, note)),
      element(
        'div',
        {class: 'beside low'},
        element('div', {}, element('h3', {}, 'Each class'), classes),
        element('div', {}, element('h3', {}, 'The largest confusions'), confusions),
      ),
    );
    this.bars.refresh();
    this.map.refresh();
  }

  top1() {
    const run = this.run(),
      names = this.names();
    const order = [...names.keys()].filter((place) => run.top1[place] !== null);
    const least = [...order].sort((one, other) => run.top1[one] - run.top1[other]);
    const places = chosen.selects['order of the classes'] === 'least' ? least : order;
    return {
      told:
        `top-1 of ${order.length} classes of ${run.name}; the least: ` +
        least
          .slice(0, 10)
          .map((place) => `${names[place]} ${shown(run.top1[place])}`)
          .join('; '),
      traces: [
        {
          type: 'bar',
          orientation: 'h',
          x: places.map((place) => run.top1[place]),
          y: [...places.keys()],
          customdata: places.map((place) => [inert(names[place]), run.images[place]]),
          text:
            places.length <= MOST_TICKS ? places.map((place) => run.top1[place].toFixed(4)) : null,
          marker: {color: '#0072b2'},
          hovertemplate: '%{customdata[0]}: %{x:.4f} of %{customdata[1]} images<extra></extra>',
        },
      ],
      layout: layout({
        height: Math.min(Math.max(280, 70 + 18 * places.length), 900),
        hovermode: 'closest',
        uirevision: run.key,
        bargap: places.length > MOST_TICKS ? 0 : 0.2,
        xaxis: axis('top-1', {range: [0, 1], zeroline: false}),
        yaxis: axis('', {
          ...namedTicks(places.map((place) => names[place])),
          range: [places.length - 0.4, -0.6],
          showgrid: false,
          zeroline: false,
          nticks: 0,
        }),
      }),
    };
  }

  confusions() {
    const run = this.run(),
      names = this.names();
    if (!run.matrix) return {told: 'There is no matrix.', traces: [], layout: layout({})};
    const share = (row, count) => count / (row.reduce((sum, each) => sum + each, 0) || 1);
    const {ink, paper} = theme();
    const most = run.largest
      .slice(0, 10)
      .map(([label, answer, count]) => `${names[label]} answered ${names[answer]}: ${count}`);
    return {
      told: `confusions of ${run.name}, label by answer; the largest: ${most.join('; ') || 'none'}`,
      traces: [
        {
          type: 'heatmap',
          // The root makes small shares visible; where no image is, nothing is drawn.
          z: run.matrix.map((row) =>
            row.map((count) => (count ? Math.sqrt(share(row, count)) : null)),
          ),
          zmin: 0,
          zmax: 1,
          colorscale: 'Viridis',
          text:
            names.length <= MOST_COUNTS
              ? run.matrix.map((row) => row.map((count) => (count ? String(count) : '')))
              : null,
          texttemplate: names.length <= MOST_COUNTS ? '%{text}' : null,
          customdata: run.matrix.map((row, label) =>
            row.map((count, answer) => [
              inert(names[label]),
              inert(names[answer]),
              count,
              (100 * share(row, count)).toPrecision(3),
            ]),
          ),
          hovertemplate:
            '%{customdata[0]} answered %{customdata[1]}: %{customdata[2]} images, ' +
            '%{customdata[3]} %<extra></extra>',
          hoverongaps: false,
          xgap: names.length <= MOST_COUNTS ? 1 : 0,
          ygap: names.length <= MOST_COUNTS ? 1 : 0,
          colorbar: {
            title: {text: "share of the label's images", side: 'right'},
            tickvals: SHARES.map(Math.sqrt),
            ticktext: SHARES.map((each) => `${100 * each} %`),
            thickness: 12,
            outlinewidth: 0,
            tickfont: {color: ink},
          },
        },
      ],
      layout: layout({
        height: Math.min(Math.max(320, 110 + 22 * names.length), 900),
        plot_bgcolor: paper,
        hovermode: 'closest',
        uirevision: run.key,
        xaxis: axis('answer', {
          ...namedTicks(names, MOST_TICKS / 2),
          showgrid: false,
          zeroline: false,
          nticks: 0,
        }),
        yaxis: axis('label', {
          ...namedTicks(names),
          range: [names.length - 0.5, -0.5],
          showgrid: false,
          zeroline: false,
          nticks: 0,
        }),
      }),
    };
  }
}

// The ticks of an axis whose places are classes: as many as can be read.
function namedTicks(names, most = MOST_TICKS) {
  const every = Math.ceil(names.length / most);
  const places = [...names.keys()].filter((place) => place % every === 0);
  return {
    tickvals: places,
    ticktext: places.map((place) => inert(short(names[place], 18))),
    tickfont: {size: 10},
  };
}

function wordColumn(name, texts) {
  return {name, title: name, isText: true, isUsual: true, values: null, texts};
}

function numberColumn(name, title, values, text = shown) {
  const texts = values.map((value) => (value === null ? '-' : text(value)));
  return {name, title, isText: false, isUsual: true, values, texts};
}
