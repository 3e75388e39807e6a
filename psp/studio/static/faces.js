// The faces that are shown: how they arrive, and what is done with the one that is selected.
import { factsOf } from './captions.js';
import { $, pngUrl } from './dom.js';
import { callOff, isEmpty, keepEarlier, keepWhenResting, page, remembered } from './page.js';
import { change, settings } from './settings.js';
import { t } from './words.js';

/** An answer of the server. how: as in Maker.ask. from: what the faces come from. */
export async function show(answer, how, from) {
  const { state, models, results, project } = page;
  models.note(answer.model, { state: 'ready', seconds_per_picture: answer.seconds.network / answer.pictures.length });
  const { title, features } = models.find(answer.model) ?? models.current;
  const seeded = from.settings.style !== 'own' && (answer.pictures[0].latent || features?.includes('seed'));
  const items = answer.pictures.map((picture) => ({ ...picture, model: answer.model, ...(seeded ? {} : { title }) }));
  state.shown = from;
  state.grid = null;
  const { edits } = from.settings;
  const source = models.current.edits?.length
    ? JSON.stringify({ ...from, settings: { ...from.settings, edits: '' } })
    : '';
  if (!edits) state.unedited = { items, source };
  const before = edits && state.unedited?.source === source ? state.unedited.items : undefined;
  await results.show(items, { facts: factsOf(answer), before, moving: how === 'moving' });
  $('model-state').textContent = models.facts();
  page.hints.show(items.length > 1 ? 'choose' : 'more');
  if (how === 'moving') return;
  project.keep('faces', { loud: false });
  if (how === 'now') keepEarlier();
  else keepWhenResting();
}

/** A face from the slider; the grid that it hides comes back with a button. */
export async function showBetween(item, facts) {
  const { state, results } = page;
  page.maker.cancel();
  if (results.items.length && results.selected.between === undefined)
    state.grid = { items: results.items, facts: results.facts, at: results.at };
  await results.show([item], { facts, at: 0 });
  page.project.keep('faces', { loud: false });
  keepWhenResting();
}

export async function back() {
  const {
    state: { grid },
    results,
  } = page;
  callOff();
  await results.show(grid.items, grid);
  page.project.keep('faces', { loud: false });
}

export function settingsChanged(changed, how) {
  const { state, models, maker } = page;
  if (how === 'done') page.project.keep('settings', { loud: changed.length > 0 });
  if (changed.includes('n') && settings.n > 1) page.hints.follow('more');
  if (changed.includes('model') || changed.includes('seed')) keepEarlier();
  if (changed.includes('model')) {
    const locked = state.locks[settings.model] ?? null; // a lock waits until its model comes back
    if (locked !== state.locked) lock(locked, { quietly: true });
    models.choose(settings.model);
  }
  if (changed.includes('live') && !settings.live) maker.cancel(); // what was to come by itself does not come
  if (changed.includes('live') && changed.length === 1 && !settings.live) return;
  if (state.locked && changed.length === 1 && ['coarse', 'middle'].includes(changed[0])) return;
  if (changed.includes('seed') || changed.includes('n') || changed.includes('style')) {
    maker.ask(settings.live ? 'done' : 'now');
    return;
  }
  maker.ask(how);
}

/** The frame says what is being waited for when nothing else is there to be seen, and while a model is read. */
export function waiting(on) {
  const {
    state,
    models: { current: model },
    maker,
    results,
  } = page;
  clearTimeout(state.veil);
  if (!on || isEmpty()) {
    $('veil').hidden = true;
    return;
  }
  state.veil = setTimeout(
    () => {
      const reading = model.state !== 'ready';
      $('veil').hidden = !(maker.running && (reading || results.items.length === 0));
      $('veil-words').textContent = t(reading ? 'wait.model' : 'wait.face');
      $('veil-time').textContent =
        reading && model.loading_for ? t('wait.seconds', { seconds: Math.round(model.loading_for) }) : '';
    },
    $('veil').hidden ? 400 : 0,
  );
}

/** One face to be varied, instead of the drawing; null: none. It belongs to its model, which is chosen with it. */
export function lock(item, { quietly = false } = {}) {
  const { state, models, maker, results } = page;
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
  for (const name of ['coarse', 'middle'])
    document.querySelector(`[data-setting="${name}"]`).parentElement.classList.toggle('resting', Boolean(item));
  page.project.keep('faces');
  if (quietly) return;
  page.hints.follow('choose');
  if (item && settings.edits) change({ edits: '' }); // its code has them already
  if (item && settings.n === 1) change({ n: 4 });
  else if (!item && isEmpty()) results.clear();
  else maker.ask(item ? 'now' : 'done');
}

export const isLocked = (item) => Boolean(item) && page.state.locked?.png === item.png;

export function selected(item) {
  $('back').hidden = item?.between === undefined || !page.state.grid;
  $('lock').setAttribute('aria-pressed', isLocked(item));
  $('star').setAttribute('aria-pressed', Boolean(item) && page.strips.favourites.has(item.png));
}

/** The selected face among the favourites, or out of them. */
export function star() {
  const {
    results,
    strips: { favourites },
  } = page;
  const item = results.selected;
  if (!item) return;
  if (!favourites.removePicture(item.png)) favourites.add({ ...remembered(), items: [item], at: 0 });
  selected(item);
}

/** What a sheet or an archive holds: the favourites, or every face that is there, once. */
export function allFaces() {
  const {
    results,
    strips: { favourites, earlier },
    state,
  } = page;
  if (favourites.entries.length)
    return { favourites: true, items: favourites.items.map((item) => ({ ...item, favourite: true })) };
  const shown = results.items.map((item) => ({ ...item, settings: state.shown?.settings }));
  return {
    favourites: false,
    items: [...new Map([...shown, ...earlier.items].map((item) => [item.png, item])).values()],
  };
}
