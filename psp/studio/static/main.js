// The page: its parts are made here, and told of each other.
import { get } from './api.js';
import { Between } from './between.js';
import { Controls } from './controls.js';
import { $, bytesOf, make, pngUrl, save, toast } from './dom.js';
import { Earlier } from './earlier.js';
import { Importer } from './importer.js';
import { LabelPad } from './labelpad.js';
import { Maker, anotherSeed } from './maker.js';
import { Models } from './models.js';
import { Results, peek } from './results.js';
import { change, link, onChange, readAddress, settings } from './settings.js';
import { SketchPad } from './sketchpad.js';
import { Tools, palette } from './tools.js';

const KINDS = ['sketch', 'labels', 'photo'];
const state = { kind: 'sketch', locked: null, photo: null };
const pads = {};
const tools = {};

const models = new Models({
  changed: () => modelChanged(),
  failed: (model, before) => {
    toast(`${model.title} cannot be used. ${model.error}`, { wrong: true, seconds: 15 });
    const other = before && before.state !== 'failed' ? before : models.all.find((one) => one.state !== 'failed');
    if (other) change({ model: other.id });
  },
});
const results = new Results({ select: (item) => showLock(item) });
const maker = new Maker({
  source: async () => {
    state.asked = origin();
    if (state.locked) return { latent: state.locked.latent };
    if (state.kind === 'photo') return state.photo && { image: state.photo.blob };
    return pads[state.kind].empty ? null : { image: await pads[state.kind].blob() };
  },
  model: () => models.current,
  stylePhoto: () => controls.photo,
  made: show,
  busy: (on) => waiting(on),
});
const earlier = new Earlier({ entry: remembered, restore });
const between = new Between({ show: showBetween });
let importer;
let controls;

async function start() {
  let about;
  try {
    about = await get('api/about');
    const wanted = readAddress();
    await models.start(wanted.model);
    Object.assign(settings, wanted, { model: models.chosen });
    begin(about, wanted);
  } catch (error) {
    toast(error.message, { wrong: true, seconds: 600 });
    throw error;
  }
}

function begin(about, wanted) {
  const hooks = (kind) => ({
    change: (how) => drawn(kind, how),
    state: () => tools[kind]?.refresh(),
    cursor: (...rest) => tools[kind]?.cursor(...rest),
  });
  pads.sketch = new SketchPad($('sketch'), hooks('sketch'));
  pads.labels = new LabelPad($('labels'), about.labels, hooks('labels'));
  for (const kind of ['sketch', 'labels']) tools[kind] = new Tools(kind, pads[kind]);
  palette(about.labels, pads.labels);
  importer = new Importer(about, { tab: () => state.kind, show: showPicture });
  controls = new Controls({ model: () => models.current, importer });
  $('enhance-card').hidden = !about.enhancer;
  $('enhance-name').textContent = `Enhance with ${about.enhancer}`;
  $('about-line').textContent = `Version ${about.version}, on ${about.device}.`;
  onChange((changed, how) => settingsChanged(changed, how));
  wire();
  peek(results);
  if (wanted.example) importer.named(wanted.example);
  models.choose(models.chosen);
}

function wire() {
  $('model').addEventListener('change', () => change({ model: $('model').value }));
  for (const tab of document.querySelectorAll('[role="tab"]')) tab.addEventListener('click', () => chooseKind(tab.dataset.kind));
  document.querySelector('.tabs').addEventListener('keydown', (event) => {
    const tabs = [...document.querySelectorAll('[role="tab"]:not([hidden])')];
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
  });
  $('dice').addEventListener('click', anotherSeed);
  $('make').addEventListener('click', () => maker.ask('now'));
  $('lock').addEventListener('click', () => lock(state.locked === results.selected ? null : results.selected));
  $('unlock').addEventListener('click', () => lock(null));
  $('set-a').addEventListener('click', () => between.set('a', results.selected));
  $('set-b').addEventListener('click', () => between.set('b', results.selected));
  $('link').addEventListener('click', copyLink);
  $('back').addEventListener('click', () => results.show(state.grid.items, state.grid.facts, state.grid.at));
  $('save-picture').addEventListener('click', () => saved('png'));
  $('save-latent').addEventListener('click', () => saved('npy'));
  $('save-settings').addEventListener('click', () => saved('json'));
  $('help').addEventListener('click', () => $('help-dialog').showModal());
  $('help-dialog').addEventListener('click', (event) => event.target === $('help-dialog') && $('help-dialog').close());
  addEventListener('click', (event) => { if (!$('save-menu').contains(event.target)) $('save-menu').open = false; });
  addEventListener('keydown', keys);
  addEventListener('hashchange', () => { const found = readAddress(); if (!models.find(found.model)) delete found.model; change(found); });
}

function keys(event) {
  if (event.key === 'Escape') $('save-menu').open = false;
  const typing = event.target.closest?.('input[type="text"], select, textarea, dialog');
  if (typing || $('help-dialog').open || event.altKey) return;
  if ((event.ctrlKey || event.metaKey) && event.key === 'Enter') { maker.ask('now'); event.preventDefault(); return; }
  if (tools[state.kind]?.key(event)) { event.preventDefault(); return; }
  if (event.ctrlKey || event.metaKey) return;
  const letter = event.key.toLowerCase();
  if (letter === 'r' && !$('dice').disabled) anotherSeed();
  else if (letter === 'l' && results.selected?.latent) $('lock').click();
  else if (letter === '?') $('help').click();
}

// What to start from

function chooseKind(kind, { keepModel = false } = {}) {
  const model = keepModel ? models.current : models.forKind(kind);
  showKind(kind);
  if (!keepModel && model && model.id !== settings.model) change({ model: model.id });
  else if (!keepModel) maker.ask();
}

function showKind(kind) {
  const other = state.kind !== kind;
  if (other) importer.forget();
  state.kind = kind;
  for (const one of KINDS) {
    const tab = $(`tab-${one}`);
    tab.setAttribute('aria-selected', one === kind);
    tab.tabIndex = one === kind ? 0 : -1;
    $(`panel-${one}`).hidden = one !== kind;
  }
  importer.fillShelf($('examples'), kind, 24);
  importer.fillShelf($('empty-examples'), kind, 8);
  $('empty-words').textContent = { sketch: 'Draw, and a face appears here.', labels: 'Paint, and a face appears here.', photo: 'Give it a photo, and a face appears here.' }[kind];
  if (kind === 'sketch') pads.sketch.redraw();
  if (other && isEmpty()) { // nothing to start from here yet: the faces of the other canvas go into the strip
    if (results.items.length) earlier.keep(true);
    maker.cancel();
    results.clear();
  }
}

function drawn(kind, how) {
  earlier.hold();
  if (state.locked && how === 'done') {
    toast('A face is locked, so the drawing does not count.', { action: ['Unlock', () => lock(null)] });
    return;
  }
  if (pads[kind].empty) {
    importer.forget();
    maker.cancel();
    results.clear();
    tools[kind].refresh();
    return;
  }
  tools[kind].refresh();
  maker.ask(how);
}

/** A picture that was opened goes onto its canvas. */
function showPicture(kind, image, base64) {
  if (kind !== state.kind) chooseKind(kind);
  if (state.locked) lock(null);
  if (kind === 'photo') {
    state.photo = { blob: new Blob([bytesOf(base64)], { type: 'image/png' }), url: pngUrl(base64) };
    showPhoto();
    maker.ask();
  } else pads[kind].setImage(image);
}

function showPhoto() {
  $('photo').hidden = !state.photo;
  if (state.photo) $('photo').src = state.photo.url;
}

// Faces

async function show(answer, how) {
  const { waiting, network, enhancing } = answer.seconds;
  const words = [`${network.toFixed(2)} s on ${answer.device.split(' ')[0]}`];
  if (enhancing) words.push(`${enhancing.toFixed(1)} s enhancing`);
  if (waiting > 0.5) words.push(`${waiting.toFixed(1)} s in line`);
  models.note(answer.model, { state: 'ready', seconds_per_picture: network / answer.pictures.length });
  const { title, features } = models.find(answer.model) ?? models.current;
  const seeded = settings.style !== 'own' && (answer.pictures[0].latent || features?.includes('seed'));
  const items = answer.pictures.map((picture) => ({ ...picture, model: answer.model, words: seeded ? `Seed ${picture.seed}` : title }));
  state.shown = state.asked;
  await results.show(items, words.join(', '));
  $('model-state').textContent = models.facts();
  earlier.keep(how === 'now');
}

/** A face from the slider; the grid that it hides comes back with a button. */
async function showBetween(item, facts) {
  maker.cancel();
  if (results.items.length && results.selected.between === undefined) state.grid = { items: results.items, facts: results.facts, at: results.at };
  await results.show([item], facts, 0);
  earlier.keep(false);
}

function settingsChanged(changed, how) {
  if (changed.includes('model')) {
    if (results.items.length) earlier.keep(true);
    if (state.locked && state.locked.model !== settings.model) lock(null, { quietly: true });
    models.choose(settings.model);
  }
  if (changed.includes('live') && !settings.live) maker.cancel(); // what was to come by itself does not come
  if (changed.includes('live') && changed.length === 1 && !settings.live) return;
  if (state.locked && changed.length && ['coarse', 'middle'].some((name) => changed.includes(name)) && changed.length === 1) return;
  if (changed.includes('seed') || changed.includes('n') || changed.includes('style')) { maker.ask(settings.live ? 'done' : 'now'); return; }
  maker.ask(how);
}

function modelChanged() {
  const model = models.current;
  for (const kind of KINDS) $(`tab-${kind}`).hidden = !(models.kinds().has(kind) || (kind !== 'photo' && models.all.some((one) => !one.input)));
  if (model.input && (model.input !== state.kind || !$('examples').children.length)) { showKind(model.input); maker.ask(); }
  controls.show();
  $('model-state').textContent = models.facts();
  waiting(Boolean(maker.running));
}

/** The frame says what is being waited for when nothing else is there to be seen, and while a model is read. */
function waiting(on) {
  const model = models.current;
  clearTimeout(state.veil);
  if (!on || isEmpty()) { $('veil').hidden = true; return; }
  state.veil = setTimeout(() => {
    const reading = model.state !== 'ready';
    $('veil').hidden = !(maker.running && (reading || results.items.length === 0));
    $('veil-words').textContent = reading ? 'Reading the model' : 'Making the first face';
    $('veil-time').textContent = reading && model.loading_for ? `${Math.round(model.loading_for)} s so far` : '';
  }, $('veil').hidden ? 400 : 0);
}

function isEmpty() {
  return !state.locked && (state.kind === 'photo' ? !state.photo : pads[state.kind].empty);
}

function lock(item, { quietly = false } = {}) {
  state.locked = item;
  $('lock-card').hidden = !item;
  if (item) $('lock-image').src = pngUrl(item.png);
  showLock(results.selected);
  for (const name of ['coarse', 'middle']) document.querySelector(`[data-setting="${name}"]`).parentElement.classList.toggle('resting', Boolean(item));
  if (quietly) return;
  if (item && settings.n === 1) change({ n: 4 });
  else if (!item && isEmpty()) results.clear();
  else maker.ask(item ? 'now' : 'done');
}

function showLock(item) {
  $('back').hidden = item?.between === undefined || !state.grid;
  $('lock').setAttribute('aria-pressed', Boolean(item) && state.locked === item);
}

// Keeping things

/** What the faces that are now asked for come from. */
function origin() {
  const { kind, locked } = state;
  return { settings: { ...settings }, kind, locked, drawing: kind === 'photo' ? state.photo : pads[kind].snapshot() };
}

function remembered() {
  if (!results.items.length) return null;
  return { items: results.items, at: results.at, facts: results.facts, ...state.shown };
}

async function restore(entry) {
  maker.cancel();
  earlier.keep(true);
  const { live } = settings;
  Object.assign(settings, entry.settings, { live });
  if (models.chosen !== settings.model) models.choose(settings.model);
  showKind(entry.kind);
  if (entry.kind === 'photo') { state.photo = entry.drawing; showPhoto(); } else pads[entry.kind].restore(entry.drawing);
  lock(entry.locked, { quietly: true });
  controls.show();
  maker.cancel();
  state.shown = { settings: entry.settings, kind: entry.kind, locked: entry.locked, drawing: entry.drawing };
  await results.show(entry.items, entry.facts, entry.at);
}

function saved(what) {
  $('save-menu').open = false;
  const item = results.selected;
  if (!item) return;
  const name = `face_${item.between === undefined ? `seed_${item.seed}` : `between_${item.between}`}`;
  if (what === 'png') save(`${name}.png`, [bytesOf(item.png)], 'image/png');
  else if (what === 'npy') save(`${name}.npy`, [bytesOf(item.latent)], 'application/octet-stream');
  else save(`${name}.json`, [JSON.stringify({ ...settings, truncation: settings.truncation ?? models.current.truncation, seed: item.seed, size: item.size, link: link() }, null, 2)], 'application/json');
}

async function copyLink() {
  const address = link();
  try {
    await navigator.clipboard.writeText(address);
    toast('The link is copied. It restores the settings, not your drawing.');
  } catch {
    const field = make('input', { value: address, readOnly: true, ariaLabel: 'Link' });
    toast('Copy this link; it restores the settings, not your drawing.', { extra: field, seconds: 30 });
    field.select();
  }
}

start();
