// The page: its parts are made here, and told of each other.
import { get } from './api.js';
import { Between } from './between.js';
import { bytesOf } from './bytes.js';
import { factsOf } from './captions.js';
import { compare } from './compare.js';
import { Controls } from './controls.js';
import { $, busy, make, pngUrl, toast } from './dom.js';
import { recipe } from './export.js';
import { Hints } from './hints.js';
import { Importer } from './importer.js';
import { LabelPad } from './labelpad.js';
import { Maker, anotherSeed } from './maker.js';
import { Models } from './models.js';
import { Newest } from './newest.js';
import { fillParts } from './parts.js';
import { closeAll, popups } from './popups.js';
import { Project } from './project.js';
import { Reference } from './reference.js';
import { Results, peek } from './results.js';
import { saving } from './saving.js';
import { DEFAULTS, change, onChange, readAddress, settings, shownExample } from './settings.js';
import { KINDS, drawings, pictureSections, sameFaces, sectionsOf } from './sections.js';
import { SketchPad } from './sketchpad.js';
import { Strip } from './strip.js';
import { BRACKETS, Tools, palette } from './tools.js';
import { LANGUAGES, chooseLanguage, loadWords, t } from './words.js';

const REST = 1500; // ms that the hand rests before what is shown counts as an earlier face
const state = { kind: 'sketch', locked: null, locks: {}, photo: null };
const pads = {};
const tools = {};

const blobOf = (base64, type) => new Blob([bytesOf(base64)], { type });
const models = new Models({
  changed: () => modelChanged(),
  failed: (model, before) => {
    toast(t('model.failed', { name: model.title, error: model.error }), { wrong: true, seconds: 15 });
    const other = before && before.state !== 'failed' ? before : models.all.find((one) => one.state !== 'failed');
    if (other) change({ model: other.id });
  },
});
const maker = new Maker({
  source: async () => {
    const from = origin();
    if (state.locked) return { from, latent: blobOf(state.locked.latent, 'application/octet-stream') };
    if (state.kind === 'photo') return state.photo && { from, image: blobOf(state.photo, 'image/png') };
    return pads[state.kind].empty ? null : { from, image: await pads[state.kind].blob() };
  },
  model: () => models.current,
  replaced: () => Boolean(between.running),
  stylePhoto: () => controls.png && blobOf(controls.png, 'image/png'),
  asked: () => between.stop(),
  made: show,
  busy: (on) => waiting(on),
});
let results;
let between;
let hints;
let importer;
let controls;
let project;
let reference;
const strips = {};
const restoring = new Newest();

async function start() {
  try {
    await loadWords();
    const about = await get('api/about');
    DEFAULTS.style = settings.style = about.first_look;
    const wanted = readAddress();
    await models.start(wanted.model);
    begin(about);
    busy('start', true);
    await project.restore();
    await follow(wanted);
    busy('start', false);
  } catch (error) {
    toast(error.message, { wrong: true, seconds: 600 });
    throw error;
  }
}

function begin(about) {
  settings.model = models.chosen;
  results = new Results({ select: (item) => selected(item), chosen: () => project.keep('faces', { loud: false }) });
  between = new Between({ show: showBetween, kept: () => project.keep('faces'), selected: () => results.selected });
  hints = new Hints();
  const hooks = (kind) => ({
    change: (how) => drawn(kind, how),
    state: () => tools[kind]?.refresh(),
    cursor: (...rest) => tools[kind]?.cursor(...rest),
    tool: (name) => tools[kind].choose(name),
  });
  const keepTools = () => project?.keep('settings', { loud: false });
  pads.sketch = new SketchPad($('sketch'), hooks('sketch'));
  pads.labels = new LabelPad($('labels'), about.labels, hooks('labels'));
  for (const kind of ['sketch', 'labels']) {
    tools[kind] = new Tools(kind, pads[kind], keepTools);
    tools[kind].refresh();
  }
  palette(about.labels, pads.labels);
  for (const name of ['favourites', 'earlier']) {
    const most = name === 'favourites' ? { most: Infinity, bytes: Infinity } : {};
    strips[name] = new Strip(name, { restore, keep: (key, entry) => project.keepEntry(key, entry) }, most);
  }
  reference = new Reference(() => project.keep('pictures'));
  importer = new Importer(about, { tab: () => state.kind, show: showPicture, project: (file) => project.open(file), close: closeAll });
  controls = new Controls({ model: () => models.current, importer, kept: () => project.keep('pictures') });
  const page = { state, pads, tools, models, controls, reference, results, between, lock, showPhoto, origin };
  const sections = sectionsOf(page);
  project = new Project(sections, strips, { opened, opening: () => { importer.stop(); restoring.stop(); }, extra: () => drawings(page) });
  fillParts($('parts'), (strokes) => {
    closeAll();
    if (state.kind !== 'sketch') chooseKind('sketch');
    pads.sketch.add(strokes);
  });
  saving({
    item: () => results.selected, sections: () => pictureSections(page, sections), between,
    settings: () => { const { settings: values } = state.shown ?? origin(); return recipe(results.selected, values, models.find(values.model)?.truncation); },
    all: () => (strips.favourites.entries.length ? { favourites: true, items: strips.favourites.items.map((item) => ({ ...item, favourite: true })) } : { items: everyFace() }),
  });
  $('enhance-card').hidden = !about.enhancer;
  $('enhance-name').textContent = t('enhance', { name: about.enhancer });
  $('about-line').textContent = t('about', { version: about.version, device: about.device });
  onChange((changed, how) => settingsChanged(changed, how));
  wire();
  popups();
  peek(results);
}

function wire() {
  $('model').addEventListener('change', () => change({ model: $('model').value }));
  $('language').append(...Object.entries(LANGUAGES).map(([value, name]) => make('option', { value, lang: value }, name)));
  $('language').value = document.documentElement.lang;
  $('language').addEventListener('change', async () => {
    chooseLanguage($('language').value);
    await project.settle();
    location.reload();
  });
  for (const tab of document.querySelectorAll('[role="tab"]')) tab.addEventListener('click', () => chooseKind(tab.dataset.kind));
  document.querySelector('.tabs').addEventListener('keydown', (event) => {
    const tabs = [...document.querySelectorAll('[role="tab"]:not([hidden])')];
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
  });
  const on = (id, act) => $(id).addEventListener('click', act);
  on('project-new', () => { closeAll(); project.startAnew(); });
  on('project-open', () => { closeAll(); $('file').click(); });
  on('project-save', () => { closeAll(); project.save(); });
  on('dice', anotherSeed);
  on('make', () => maker.ask('now'));
  on('lock', () => lock(isLocked(results.selected) ? null : results.selected));
  on('unlock', () => lock(null));
  on('star', star);
  on('set-a', () => between.set('a', results.selected));
  on('set-b', () => between.set('b', results.selected));
  on('compare', () => compare(between.ends.a, between.ends.b));
  on('back', back);
  on('help', () => $('help-dialog').showModal());
  for (const dialog of document.querySelectorAll('dialog')) dialog.addEventListener('click', (event) => outside(dialog, event) && dialog.close(''));
  addEventListener('keydown', keys);
  addEventListener('keyup', (event) => event.key.toLowerCase() === 'b' && results.holdBefore(false));
  addEventListener('blur', () => results.holdBefore(false));
  addEventListener('hashchange', () => take(readAddress()));
}

/** Whether a click fell beside a dialog: on the page behind it, and not on its rim. */
function outside(dialog, { target, clientX, clientY }) {
  const { left, top, right, bottom } = dialog.getBoundingClientRect();
  return target === dialog && (clientX < left || clientX > right || clientY < top || clientY > bottom);
}

function keys(event) {
  const typing = event.target.closest?.('input[type="text"], select, textarea, dialog');
  const letter = event.key.toLowerCase();
  const control = event.ctrlKey || event.metaKey;
  if (control && letter === 's') { event.preventDefault(); if (!event.repeat) project.save(); return; }
  if (typing || document.querySelector('dialog[open]') || event.altKey && !BRACKETS.includes(event.key)) return;
  if (control && event.key === 'Enter') { maker.ask('now'); event.preventDefault(); return; }
  if (tools[state.kind]?.key(event)) { event.preventDefault(); return; }
  if (control || event.repeat) return;
  if (letter === 'r' && !$('dice').disabled) anotherSeed();
  else if (letter === 'l' && results.selected?.latent) $('lock').click();
  else if (letter === 'k' && results.selected) star();
  else if (letter === 'b') results.holdBefore(true);
  else if (letter === '?') $('help').click();
}

// What to start from

function chooseKind(kind) {
  const model = models.forKind(kind);
  showKind(kind);
  if (model && model.id !== settings.model) change({ model: model.id });
  else maker.ask();
  project.keep('settings', { loud: false });
}

function showKind(kind) {
  const other = state.kind !== kind;
  if (other) importer.forget();
  state.kind = state.tab = kind;
  for (const one of KINDS) {
    const tab = $(`tab-${one}`);
    tab.setAttribute('aria-selected', one === kind);
    tab.tabIndex = one === kind ? 0 : -1;
    $(`panel-${one}`).hidden = one !== kind;
  }
  $('parts-button').hidden = kind !== 'sketch';
  $('reference-button').hidden = kind === 'photo';
  importer.fillShelf($('examples'), kind, 24);
  importer.fillShelf($('empty-examples'), kind, 8);
  $('empty-words').textContent = t(`empty.${kind}`);
  if (kind === 'sketch') pads.sketch.redraw();
  if (other && isEmpty()) { // nothing to start from here yet: the faces of the other canvas go into the strip
    if (results.items.length) keepEarlier();
    callOff();
    results.clear();
  }
}

/** Faces that were asked for are not wanted any more. */
function callOff() {
  between.stop();
  maker.cancel();
}

function drawn(kind, how) {
  clearTimeout(state.resting);
  hints.follow('draw');
  if (how === 'done') project.keep(kind);
  if (how !== 'moving' && (!pads[kind].pictured || pads[kind].empty)) importer.forget(); // the picture was taken back
  if (state.locked) {
    if (how === 'done') state.told ??= toast(t('locked.drawing'), { action: [t('unlock'), () => lock(null)] });
    return;
  }
  tools[kind].refresh();
  if (!pads[kind].empty) { maker.ask(how === 'moving' ? how : 'done'); return; }
  callOff();
  results.clear();
  project.keep('faces', { loud: how === 'done' });
}

/** A picture that was opened goes onto its canvas. */
function showPicture(kind, image, base64) {
  if (kind !== state.kind) chooseKind(kind);
  if (state.locked) lock(null);
  if (kind !== 'photo') { pads[kind].setImage(image, base64); return; }
  state.photo = base64;
  project.keep('pictures');
  showPhoto();
  maker.ask();
}

function showPhoto() {
  $('photo').hidden = !state.photo;
  if (state.photo) $('photo').src = pngUrl(state.photo);
}

// Faces

async function show(answer, how, from) {
  models.note(answer.model, { state: 'ready', seconds_per_picture: answer.seconds.network / answer.pictures.length });
  const { title, features } = models.find(answer.model) ?? models.current;
  const seeded = settings.style !== 'own' && (answer.pictures[0].latent || features?.includes('seed'));
  const items = answer.pictures.map((picture) => ({ ...picture, model: answer.model, ...(seeded ? {} : { title }) }));
  state.shown = from;
  state.grid = null;
  const edited = state.shown.settings.edits;
  const source = models.current.edits?.length ? JSON.stringify({ ...state.shown, settings: { ...state.shown.settings, edits: '' } }) : '';
  if (!edited) state.unedited = { items, source };
  const before = edited && state.unedited?.source === source ? state.unedited.items : undefined;
  await results.show(items, { facts: factsOf(answer), before, moving: how === 'moving' });
  $('model-state').textContent = models.facts();
  hints.show(items.length > 1 ? 'choose' : 'more');
  if (how === 'moving') return;
  project.keep('faces', { loud: false });
  if (how === 'now') keepEarlier();
  else keepWhenResting();
}

/** A face from the slider; the grid that it hides comes back with a button. */
async function showBetween(item, facts) {
  maker.cancel();
  if (results.items.length && results.selected.between === undefined) state.grid = { items: results.items, facts: results.facts, at: results.at };
  await results.show([item], { facts, at: 0 });
  project.keep('faces', { loud: false });
  keepWhenResting();
}

async function back() {
  between.stop();
  await results.show(state.grid.items, state.grid);
  project.keep('faces', { loud: false });
}

function settingsChanged(changed, how) {
  if (how === 'done') project.keep('settings', { loud: changed.length > 0 });
  if (changed.includes('n') && settings.n > 1) hints.follow('more');
  if (changed.includes('model') || changed.includes('seed')) keepEarlier();
  if (changed.includes('model')) {
    const locked = state.locks[settings.model] ?? null; // a lock waits until its model comes back
    if (locked !== state.locked) lock(locked, { quietly: true });
    models.choose(settings.model);
  }
  if (changed.includes('live') && !settings.live) maker.cancel(); // what was to come by itself does not come
  if (changed.includes('live') && changed.length === 1 && !settings.live) return;
  if (state.locked && changed.length === 1 && ['coarse', 'middle'].includes(changed[0])) return;
  if (changed.includes('seed') || changed.includes('n') || changed.includes('style')) { maker.ask(settings.live ? 'done' : 'now'); return; }
  maker.ask(how);
}

function modelChanged() {
  const model = models.current;
  for (const kind of KINDS) $(`tab-${kind}`).hidden = !(models.kinds().has(kind) || (kind !== 'photo' && models.all.some((one) => !one.input)));
  if (model.input && model.input !== state.tab) { showKind(model.input); maker.ask(); }
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
    $('veil-words').textContent = t(reading ? 'wait.model' : 'wait.face');
    $('veil-time').textContent = reading && model.loading_for ? t('wait.seconds', { seconds: Math.round(model.loading_for) }) : '';
  }, $('veil').hidden ? 400 : 0);
}

function isEmpty() {
  return !state.locked && (state.kind === 'photo' ? !state.photo : pads[state.kind].empty);
}

/** One face to be varied, instead of the drawing; null: none. It belongs to its model, which is chosen with it. */
function lock(item, { quietly = false } = {}) {
  const elsewhere = item && item.model !== settings.model;
  if (elsewhere && (quietly || !models.find(item.model))) item = null;
  else if (elsewhere) change({ model: item.model });
  state.locked = item;
  if (item) state.locks[item.model] = item;
  else delete state.locks[settings.model];
  state.told?.();
  state.told = null;
  $('lock-card').hidden = !item;
  if (item) $('lock-image').src = pngUrl(item.png);
  selected(results.selected);
  for (const name of ['coarse', 'middle']) document.querySelector(`[data-setting="${name}"]`).parentElement.classList.toggle('resting', Boolean(item));
  project.keep('faces');
  if (quietly) return;
  hints.follow('choose');
  if (item && settings.edits) change({ edits: '' }); // its code has them already
  if (item && settings.n === 1) change({ n: 4 });
  else if (!item && isEmpty()) results.clear();
  else maker.ask(item ? 'now' : 'done');
}

function selected(item) {
  $('back').hidden = item?.between === undefined || !state.grid;
  $('lock').setAttribute('aria-pressed', isLocked(item));
  $('star').setAttribute('aria-pressed', Boolean(item) && strips.favourites.has(item.png));
}

const isLocked = (item) => Boolean(item) && state.locked?.png === item.png;

/** The selected face among the favourites, or out of them. */
function star() {
  const item = results.selected;
  if (!item) return;
  if (!strips.favourites.removePicture(item.png)) strips.favourites.add({ ...remembered(), items: [item], at: 0 });
  selected(item);
}

/** Every face that is there, once. */
function everyFace() {
  const shown = results.items.map((item) => ({ ...item, settings: state.shown?.settings }));
  return [...new Map([...shown, ...strips.earlier.items].map((item) => [item.png, item])).values()];
}

// Keeping things

/** What the faces that are now asked for come from, as a plain record. */
function origin() {
  const { kind, locked } = state;
  return {
    settings: { ...settings }, kind, locked,
    drawing: kind === 'photo' ? { photo: { png: state.photo } } : pads[kind].snapshot(),
    style: settings.style === 'photo' ? { png: controls.png } : null,
  };
}

function remembered() {
  return { items: results.items, at: results.at, facts: results.facts, ...(state.shown ?? origin()) };
}

function keepEarlier() {
  clearTimeout(state.resting);
  if (results.items.length) strips.earlier.add(remembered());
}

/** Live drawing makes many pictures: one is kept when the hand has rested for a moment. */
function keepWhenResting() {
  clearTimeout(state.resting);
  state.resting = setTimeout(keepEarlier, REST);
}

async function restore(entry) {
  const isNewest = restoring.begin();
  callOff();
  keepEarlier();
  importer.stop();
  const { model } = entry.settings;
  change({ ...entry.settings, live: settings.live, model: models.find(model) ? model : models.chosen });
  maker.cancel();
  showKind(entry.kind);
  if (entry.kind === 'photo') { state.photo = entry.drawing.photo?.png; showPhoto(); } else await pads[entry.kind].restore(entry.drawing);
  if (!isNewest()) return;
  lock(entry.locked, { quietly: true });
  controls.setPhoto(entry.style?.png ?? controls.png);
  controls.show();
  maker.cancel();
  state.shown = { settings: entry.settings, kind: entry.kind, locked: entry.locked, drawing: entry.drawing, style: entry.style };
  state.grid = null;
  await results.show(entry.items, { facts: entry.facts, at: entry.at });
  for (const name of Object.keys(project.sections)) project.keep(name);
}

/** Another project is there: the page shows it, and its faces are made again where they are not all there. */
async function opened() {
  callOff();
  models.choose(settings.model);
  showKind(state.kind);
  controls.show();
  change({});
  maker.cancel();
  if (isEmpty()) return;
  const whole = results.items.length && results.items.length === settings.n || results.selected?.between !== undefined;
  if (!whole) maker.ask('now');
  else if (!sameFaces(state.shown, origin())) maker.ask(); // changed since, and closed before they came
}

/** A link was followed: its settings come on top of what was kept, and its example if that is not there already. */
async function follow(wanted) {
  const reloaded = performance.getEntriesByType('navigation')[0]?.type !== 'navigate' && project.known;
  if (reloaded) return;
  if (!project.known) models.choose(models.find(wanted.model) ? wanted.model : settings.model);
  await take(wanted);
}

/** The settings of a link on top of what is there, and its example if that is not there already. */
async function take({ example, ...values }) {
  if (!models.find(values.model)) delete values.model;
  if (Object.entries(values).some(([name, value]) => settings[name] !== value)) change(values);
  if (example && example !== shownExample()) await importer.named(example);
}

start();
