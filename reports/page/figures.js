'use strict';
// Figures by plotly.js. Each is drawn when it is first seen, and again when something changes.

// On paper: black on white whatever the screen has, and at most as wide as a page.
const ON_PAPER = {paper: '#fff', ink: '#000', soft: '#333', line: '#aaa'};
const PAPER_WIDTH = 690; // pixels; of two figures side by side, each has half of it

function theme() {
  if (Figure.isPrinting) return ON_PAPER;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return {
    paper: colour('--paper'),
    ink: colour('--ink'),
    soft: colour('--soft'),
    line: colour('--line'),
  };
}

function axis(title, more = {}) {
  const {ink, line} = theme();
  return {
    title: {text: inert(title), standoff: 8},
    gridcolor: line,
    zerolinecolor: line,
    linecolor: line,
    color: ink,
    automargin: true,
    exponentformat: 'power',
    nticks: 6,
    ...more,
  };
}

function layout(more) {
  const {paper, ink, line} = theme();
  return {
    paper_bgcolor: paper,
    plot_bgcolor: paper,
    font: {color: ink, size: 12, family: 'system-ui, sans-serif'},
    height: 280,
    margin: {l: 52, r: 12, t: 8, b: 42},
    showlegend: false,
    dragmode: 'zoom',
    autosize: true,
    hoverlabel: {namelength: 40, bgcolor: paper, bordercolor: line, font: {color: ink}},
    ...more,
  };
}

const CONFIG = {responsive: true, displayModeBar: false}; // its buttons would cover the curves

class Figure {
  // title: of the figure; draw: returns {traces, layout, told}, or null where there is nothing.
  constructor(title, draw) {
    this.draw = draw;
    this.plot = element('div', {role: 'img', class: 'plot'});
    this.host = element(
      'figure',
      {'data-title': title},
      element('figcaption', {}, title),
      this.plot,
    );
    this.isSeen = false;
    this.isStale = true;
    Figure.all.add(this);
    Figure.observer.observe(this.host);
  }

  refresh() {
    this.isStale = true;
    if (this.isSeen) this.show();
  }

  show() {
    this.isStale = false;
    const drawn = this.draw();
    this.plot.setAttribute('aria-label', drawn.told);
    Plotly.react(this.plot, drawn.traces, {...drawn.layout, ...this.size()}, CONFIG);
    if (drawn.clicked && !this.isListening) {
      this.isListening = true;
      this.plot.on('plotly_click', (event) => drawn.clicked(event.points[0]));
    }
  }

  // The size of the figure on paper. On a screen, it has the width of its place.
  size() {
    if (!Figure.isPrinting) return {};
    const width = this.host.closest('.plots') ? PAPER_WIDTH / 2 - 10 : PAPER_WIDTH;
    return {width, autosize: false};
  }

  static print(isPrinting) {
    Figure.isPrinting = isPrinting;
    if (isPrinting) for (const figure of Figure.all) figure.show();
    else Figure.refreshAll();
  }

  static refreshAll() {
    for (const figure of Figure.all) figure.refresh();
  }

  static forget() {
    for (const figure of Figure.all) {
      Figure.observer.unobserve(figure.host);
      Plotly.purge(figure.plot);
    }
    Figure.all.clear();
  }
}
Figure.all = new Set();
Figure.isPrinting = false;
Figure.observer = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const figure = [...Figure.all].find((each) => each.host === entry.target);
      if (!figure) continue;
      figure.isSeen = entry.isIntersecting;
      if (figure.isSeen && figure.isStale) figure.show();
    }
  },
  {rootMargin: '400px'},
);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => Figure.refreshAll());
addEventListener('beforeprint', () => Figure.print(true));
addEventListener('afterprint', () => Figure.print(false));
