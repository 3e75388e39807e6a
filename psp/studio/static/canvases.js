// What to start from: the three canvases, which of them is in front, and what is drawn on it.
import { $, pngUrl, toast } from './dom.js';
import { lock, waiting } from './faces.js';
import { KINDS, callOff, isEmpty, keepEarlier, page } from './page.js';
import { change, settings } from './settings.js';
import { t } from './words.js';

export function chooseKind(kind) {
  const model = page.models.forKind(kind);
  showKind(kind);
  if (model && model.id !== settings.model) change({ model: model.id });
  else page.maker.ask();
  page.project.keep('settings', { loud: false });
}

export function showKind(kind) {
  const { state, importer, results } = page;
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
  if (kind === 'sketch') page.pads.sketch.redraw();
  if (other && isEmpty()) {
    // nothing to start from here yet: the faces of the other canvas go into the strip
    keepEarlier();
    callOff();
    results.clear();
  }
}

/** Something about the models changed, or about the one that is chosen. */
export function modelChanged() {
  const { models, controls, maker, state } = page;
  const model = models.current;
  for (const kind of KINDS)
    $(`tab-${kind}`).hidden = !(models.kinds().has(kind) || (kind !== 'photo' && models.all.some((one) => !one.input)));
  if (model.input && model.input !== state.tab) {
    showKind(model.input);
    maker.ask();
  }
  controls.show();
  $('model-state').textContent = models.facts();
  waiting(Boolean(maker.running));
}

/** how: 'moving', 'done' or 'dropped', as the canvases say it. */
export function drawn(kind, how) {
  const { state, project, importer, maker, results } = page;
  const pad = page.pads[kind];
  clearTimeout(state.resting);
  page.hints.follow('draw');
  if (how === 'done') project.keep(kind);
  if (how !== 'moving' && (!pad.pictured || pad.empty)) importer.forget(); // the picture was taken back
  if (state.locked) {
    if (how === 'done') state.told ??= toast(t('locked.drawing'), { action: [t('unlock'), () => lock(null)] });
    return;
  }
  page.tools[kind].refresh();
  if (!pad.empty) {
    maker.ask(how === 'moving' ? how : 'done');
    return;
  }
  callOff();
  results.clear();
  project.keep('faces', { loud: how === 'done' });
}

/** A picture that was opened goes onto its canvas. */
export function showPicture(kind, image, base64) {
  const { state } = page;
  if (kind !== state.kind) chooseKind(kind);
  if (state.locked) lock(null);
  if (kind !== 'photo') {
    page.pads[kind].setImage(image, base64);
    return;
  }
  state.photo = base64;
  page.project.keep('pictures');
  showPhoto();
  page.maker.ask();
}

export function showPhoto() {
  const { photo } = page.state;
  $('photo').hidden = !photo;
  if (photo) $('photo').src = pngUrl(photo);
}
