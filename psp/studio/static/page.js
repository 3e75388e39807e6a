// What the parts of the page share: its state, the parts themselves, and what faces come from.
import { settings } from './settings.js';

export const KINDS = ['sketch', 'labels', 'photo'];
const REST = 1500; // ms that the hand rests before what is shown counts as an earlier face

/**
 * state: kind (of canvas), tab (that is shown), photo (base64), locked (a face, or null), locks (by model), shown (what
 * the faces that are there come from), grid (the faces that one from between hides). main.js puts the parts beside it:
 * models, maker, results, between, hints, importer, controls, reference, project.
 */
export const page = {
  state: { kind: 'sketch', locked: null, locks: {}, photo: null },
  pads: {},
  tools: {},
  strips: {},
};

/** Whether there is nothing to start from. */
export function isEmpty() {
  const { state, pads } = page;
  return !state.locked && (state.kind === 'photo' ? !state.photo : pads[state.kind].empty);
}

/** What the faces that are now asked for come from, as a plain record. */
export function origin() {
  const {
    state: { kind, locked, photo },
    pads,
    controls,
  } = page;
  return {
    settings: { ...settings },
    kind,
    locked,
    drawing: kind === 'photo' ? { photo: { png: photo } } : pads[kind].snapshot(),
    style: settings.style === 'photo' ? { png: controls.png } : null,
  };
}

/** The faces that are there with what they come from, as a plain record. */
export function remembered() {
  const { items, at, facts } = page.results;
  return { items, at, facts, ...(page.state.shown ?? origin()) };
}

export function keepEarlier() {
  clearTimeout(page.state.resting);
  if (page.results.items.length) page.strips.earlier.add(remembered());
}

/** Live drawing makes many pictures: one is kept when the hand has rested for a moment. */
export function keepWhenResting() {
  clearTimeout(page.state.resting);
  page.state.resting = setTimeout(keepEarlier, REST);
}

/** Faces that were asked for are not wanted any more. */
export function callOff() {
  page.between.stop();
  page.maker.cancel();
}
