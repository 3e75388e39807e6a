// The words of the page: one file per language in words/, all with the same keys.
export const LANGUAGES = { en: 'English', de: 'Deutsch', fr: 'Français', es: 'Español', ja: '日本語', zh: '中文' };
let words = {};
let locale = 'en';

/** The language that was chosen, else the first of the browser's that is there, else English. */
export function language(stored, browser) {
  return [stored, ...browser.map((name) => name.slice(0, 2).toLowerCase())].find((name) => name in LANGUAGES) ?? 'en';
}

const stored = () => {
  try {
    return localStorage.getItem('studio-language');
  } catch {
    return null;
  }
};

export async function loadWords() {
  const name = language(stored(), navigator.languages ?? []);
  document.documentElement.lang = name;
  use(await (await fetch(`static/words/${name}.json`)).json(), name);
  translate(document);
}

export function chooseLanguage(name) {
  try {
    localStorage.setItem('studio-language', name);
  } catch {
    /* private window */
  }
}

export const use = (all, name = 'en') => {
  words = all;
  locale = name;
};
export const knows = (key) => key in words;

/** The words of a key, with {name} replaced by values.name. */
export const t = (key, values = {}) =>
  (words[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);

/** A number as it is written in this language, with so many digits behind the point. */
export const number = (value, digits) =>
  value.toLocaleString(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** Keys as they are called on keyboards of this language: "Ctrl Z". */
const keysOf = (names) =>
  names
    .split(' ')
    .map((name) => (knows(`kbd.${name}`) ? t(`kbd.${name}`) : name))
    .join(' ');

/** data-t: text; data-t-title: title and name, data-key: the key that does the same; data-t-label: name alone. */
export function translate(root) {
  for (const element of root.querySelectorAll('[data-t]')) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll('[data-t-label]'))
    element.setAttribute('aria-label', t(element.dataset.tLabel));
  for (const element of root.querySelectorAll('[data-t-alt]')) element.alt = t(element.dataset.tAlt);
  for (const element of root.querySelectorAll('[data-t-title]')) {
    const { tTitle, key } = element.dataset;
    element.title = key ? `${t(tTitle)} (${keysOf(key)})` : t(tTitle);
    if (!element.textContent.trim()) element.setAttribute('aria-label', t(tTitle));
  }
}
