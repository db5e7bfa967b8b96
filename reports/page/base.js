'use strict';
// What all parts of the page use: elements, texts and what the reader has chosen.

// What the reader has chosen. It outlives a refresh of the data.
const chosen = {
  x: 'steps',
  logX: false,
  logY: false,
  smoothing: 0,
  seeds: false,
  band: true,
  hidden: new Set(), // series, as 'section / label'
  tables: {}, // by the name of the table
  runs: new Set(), // the keys of the runs that are compared
  selects: {}, // by the name of the control
};

// Makes an element. Texts are always text and never markup.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (typeof value === 'boolean') made[name] = value;
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// Returns a text that plotly.js draws as it is: it would read markup in it, such as links.
function inert(text) {
  return String(text).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}

function short(text, most = 44) {
  const plain = String(text);
  if (plain.length <= most) return plain;
  return plain.slice(0, most / 2 - 1) + '…' + plain.slice(-most / 2);
}

// Returns a number for readers, with a few significant digits.
function shown(number) {
  if (number === null || number === undefined || Number.isNaN(number)) return '-';
  return Number.isInteger(number)
    ? number.toLocaleString('en')
    : String(Number(number.toPrecision(5)));
}

// Returns from where to where values go.
function ends(values) {
  return `from ${shown(values[0])} to ${shown(values[values.length - 1])}`;
}

function checkbox(text, name, changed) {
  const box = element('input', {
    type: 'checkbox',
    name,
    checked: chosen[name],
    onchange: () => {
      chosen[name] = box.checked;
      changed();
    },
  });
  return element('label', {}, box, ' ' + text);
}

// A control with one choice among several, which is remembered under its name.
function choice(text, name, options, changed) {
  const values = options.map((option) => String(option.value));
  if (!values.includes(chosen.selects[name])) chosen.selects[name] = values[0];
  const select = element(
    'select',
    {
      name,
      onchange: () => {
        chosen.selects[name] = select.value;
        changed();
      },
    },
    options.map((option) =>
      element(
        'option',
        {value: option.value, selected: String(option.value) === chosen.selects[name]},
        option.text,
      ),
    ),
  );
  return element('label', {}, text + ' ', select);
}
