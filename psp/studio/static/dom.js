// Small helpers that every part of the page uses.
import { t } from './words.js';

export const $ = (id) => document.getElementById(id);

/** Element with properties and children: make('p', {className: 'small'}, 'text'). */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Buttons with role radio inside `group`: one is checked; arrow keys move, as readers expect. Returns a setter. */
export function radios(group, attribute, onChoose) {
  const buttons = () => [...group.querySelectorAll('[role="radio"]')].filter((b) => !b.disabled && !b.hidden);
  const set = (value) => {
    for (const button of group.querySelectorAll('[role="radio"]')) {
      const on = button.dataset[attribute] === String(value);
      button.setAttribute('aria-checked', on);
      button.tabIndex = on ? 0 : -1;
    }
    if (!group.querySelector('[tabindex="0"]') && buttons()[0]) buttons()[0].tabIndex = 0;
  };
  const choose = (button) => {
    set(button.dataset[attribute]);
    onChoose(button.dataset[attribute]);
  };
  group.addEventListener('click', (event) => {
    const button = event.target.closest('[role="radio"]');
    if (button && !button.disabled) choose(button);
  });
  group.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const all = buttons();
    const at = all.indexOf(event.target.closest('[role="radio"]'));
    if (!step || at < 0) return;
    event.preventDefault();
    const next = all[(at + step + all.length) % all.length];
    next.focus();
    choose(next);
  });
  return set;
}

const reasons = new Set();
/** Who is at work; readers, and whoever waits for the page to come to rest, see it at the faces. */
export function busy(who, on) {
  if (on) reasons.add(who);
  else reasons.delete(who);
  $('results').setAttribute('aria-busy', reasons.size > 0);
}

/** What act() gives; the page is busy meanwhile, and says these words when it takes long. */
export async function working(act, words = '') {
  const who = Symbol('work');
  busy(who, true);
  let dismiss = null;
  const slow = setTimeout(() => {
    if (words) dismiss = toast(words, { seconds: 60 });
  }, 500);
  try {
    return await act();
  } finally {
    clearTimeout(slow);
    dismiss?.();
    setTimeout(() => busy(who, false), 50); // by then the faces have been asked for
  }
}

/** The filled part of a slider. */
export function fillSlider(slider) {
  const part = (slider.value - slider.min) / (slider.max - slider.min);
  slider.style.setProperty('--at', `${part * 100}%`);
}

/** A line at the bottom of the window. action: [label, function]. Returns a function that removes it. */
export function toast(text, { wrong = false, action = null, seconds = 6 } = {}) {
  const box = make('div', { className: wrong ? 'toast wrong' : 'toast' });
  box.append(make('p', {}, text));
  const remove = () => box.remove();
  if (action) {
    const button = make('button', { type: 'button' }, action[0]);
    button.addEventListener('click', () => {
      remove();
      action[1]();
    });
    box.append(button);
  }
  const close = make('button', { type: 'button', ariaLabel: t('close') }, icon('close'));
  close.addEventListener('click', remove);
  box.append(close);
  $('toasts').replaceChildren(...[...$('toasts').children].slice(-2), box);
  setTimeout(remove, seconds * 1000);
  return remove;
}

export const loadImage = async (url) => {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
};

export const pngUrl = (base64) => `data:image/png;base64,${base64}`;

export function save(name, parts, type) {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  make('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
