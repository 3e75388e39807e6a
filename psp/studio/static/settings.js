// What the next faces are made with; readable from and written to the address, so that a link restores it.
export const DEFAULTS = {
  model: '',
  n: 1,
  seed: 1,
  style: 'random',
  coarse: 0,
  middle: 0,
  fine: 1,
  truncation: null,
  follow: null,
  edits: '',
  enhance: false,
  live: true,
}; // truncation and follow null: the model's own; edits: {name: amount} as JSON
const RANGES = {
  n: [1, 9],
  seed: [0, 2147483000],
  coarse: [0, 1],
  middle: [0, 1],
  fine: [0, 1],
  truncation: [0, 1.5],
  follow: [0, 1],
};
const WHOLE = ['n', 'seed'];
const STYLES = ['random', 'photo', 'own'];

export const settings = { ...DEFAULTS };
const listeners = [];

export const onChange = (listener) => listeners.push(listener);

/** Of values from elsewhere those that are settings. */
export const onlySettings = (values = {}) =>
  Object.fromEntries(Object.entries(values).filter(([name]) => name in DEFAULTS));

/** Change some settings; whoever shows them is told. how: 'moving' while a slider is dragged. */
export function change(values, how = 'done') {
  const known = onlySettings(values);
  const changed = Object.keys(known).filter((name) => settings[name] !== known[name]);
  if (!changed.length && how !== 'done') return;
  Object.assign(settings, known);
  writeAddress();
  for (const listener of listeners) listener(changed, how);
}

/** Settings in the part of an address after #; what is missing or absurd is left out. */
export function readAddress(text = location.hash) {
  const found = {};
  for (const [name, value] of new URLSearchParams(text.replace(/^#/, ''))) {
    if (name in RANGES) {
      const number = Number(value);
      const [low, high] = RANGES[name];
      if (value.trim() !== '' && number >= low && number <= high)
        found[name] = WHOLE.includes(name) ? Math.round(number) : number;
    } else if (name === 'style' && STYLES.includes(value)) found.style = value;
    else if (name === 'edits' && value.length < 2000) found.edits = cleanEdits(value);
    else if (name === 'model') found.model = value.slice(0, 200);
    else if (name === 'enhance' || name === 'live') found[name] = value === 'true';
    else if (name === 'example' && value.length < 200) found.example = value;
  }
  if (found.style === 'photo') delete found.style; // the photo itself is not in a link
  return found;
}

/** Amounts that are no numbers, or nought, are left out. */
function cleanEdits(text) {
  let edits = {};
  try {
    edits = JSON.parse(text) ?? {};
  } catch {
    /* a link from elsewhere */
  }
  return editsText(edits);
}
export function editsText(edits) {
  const some = Object.entries(edits).filter(([, amount]) => Number.isFinite(amount) && amount !== 0);
  return some.length ? JSON.stringify(Object.fromEntries(some)) : '';
}

let example = '';
export const shownExample = () => example;
/** An example that the canvas shows belongs to the link as well; '' when it is something else. */
export function setExample(name) {
  example = name;
  writeAddress();
}

export function link(values = settings) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(onlySettings(values))) {
    if (value !== DEFAULTS[name] && !(name === 'style' && value === 'photo')) words.set(name, value);
  }
  if (example) words.set('example', example);
  return `${location.origin}${location.pathname}#${words}`;
}

let timer = 0;
function writeAddress() {
  clearTimeout(timer);
  timer = setTimeout(() => history.replaceState(null, '', link()), 300); // browsers limit how often
}
