// What buttons and keys of the page do.
import { chooseKind } from './canvases.js';
import { compare } from './compare.js';
import { $, make } from './dom.js';
import { back, isLocked, lock, star } from './faces.js';
import { useLink } from './keeping.js';
import { anotherSeed } from './maker.js';
import { page } from './page.js';
import { closeAll } from './popups.js';
import { change, readAddress } from './settings.js';
import { BRACKETS } from './tools.js';
import { LANGUAGES, chooseLanguage } from './words.js';

export function wire() {
  const { project, maker, results, between } = page;
  $('model').addEventListener('change', () => change({ model: $('model').value }));
  $('language').append(
    ...Object.entries(LANGUAGES).map(([value, name]) => make('option', { value, lang: value }, name)),
  );
  $('language').value = document.documentElement.lang;
  $('language').addEventListener('change', async () => {
    chooseLanguage($('language').value);
    await project.settle();
    location.reload();
  });
  for (const tab of document.querySelectorAll('[role="tab"]'))
    tab.addEventListener('click', () => chooseKind(tab.dataset.kind));
  document.querySelector('.tabs').addEventListener('keydown', (event) => {
    const tabs = [...document.querySelectorAll('[role="tab"]:not([hidden])')];
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
  });
  const on = (id, act) => $(id).addEventListener('click', act);
  on('project-new', () => {
    closeAll();
    project.startAnew();
  });
  on('project-open', () => {
    closeAll();
    $('file').click();
  });
  on('project-save', () => {
    closeAll();
    project.save();
  });
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
  for (const dialog of document.querySelectorAll('dialog'))
    dialog.addEventListener('click', (event) => outside(dialog, event) && dialog.close(''));
  addEventListener('keydown', pressed);
  addEventListener('keyup', (event) => event.key.toLowerCase() === 'b' && results.holdBefore(false));
  addEventListener('blur', () => results.holdBefore(false));
  addEventListener('hashchange', () => useLink(readAddress()));
}

/** Whether a click fell beside a dialog: on the page behind it, and not on its rim. */
function outside(dialog, { target, clientX, clientY }) {
  const { left, top, right, bottom } = dialog.getBoundingClientRect();
  return target === dialog && (clientX < left || clientX > right || clientY < top || clientY > bottom);
}

function pressed(event) {
  const { project, maker, results, tools, state } = page;
  const typing = event.target.closest?.('input[type="text"], select, textarea, dialog');
  const letter = event.key.toLowerCase();
  const control = event.ctrlKey || event.metaKey;
  if (control && letter === 's') {
    event.preventDefault();
    if (!event.repeat) project.save();
    return;
  }
  if (typing || document.querySelector('dialog[open]') || (event.altKey && !BRACKETS.includes(event.key))) return;
  if (control && event.key === 'Enter') {
    maker.ask('now');
    event.preventDefault();
    return;
  }
  if (tools[state.kind]?.key(event)) {
    event.preventDefault();
    return;
  }
  if (control || event.repeat) return;
  if (letter === 'r' && !$('dice').disabled) anotherSeed();
  else if (letter === 'l' && results.selected?.latent) $('lock').click();
  else if (letter === 'k' && results.selected) star();
  else if (letter === 'b') results.holdBefore(true);
  else if (letter === '?') $('help').click();
}
