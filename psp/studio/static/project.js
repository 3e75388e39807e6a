// One piece of work: kept in the browser section by section as it changes, and saved as a file when asked.
import { TooLarge, readArchive, readProject, writeArchive } from './archive.js';
import { $, save, toast, working } from './dom.js';
import { fromPicture } from './export.js';
import { Newest } from './newest.js';
import { wordsOf } from './png.js';
import { claim, keys, readAll, write } from './store.js';
import { t } from './words.js';

const SOON = 40; // ms; what changes together is written together
const AGAIN = 5000; // ms after which what could not be written is tried again
/** What the sections are called on the page. */
const NAMES = {
  settings: 'settings',
  sketch: 'tab.sketch',
  labels: 'tab.labels',
  pictures: 'tab.photo',
  faces: 'faces',
};

export class Project {
  /**
   * sections: {name: {get() -> plain record, set(record or undefined)}}; those with under(record) lay another window's
   * record below their own. strips: {name: Strip}, kept entry by entry.
   * opening(): another project is coming; opened(): it is there. extra(): pictures of the drawing for other programs,
   * [[name, bytes], ...].
   */
  constructor(sections, strips, hooks) {
    Object.assign(this, {
      sections,
      strips,
      hooks,
      waiting: new Map(),
      timer: 0,
      writing: null,
      unsaved: false,
      touched: false,
      failed: false,
      owned: false,
      unread: false,
      newest: new Newest(),
      turn: Promise.resolve(),
    });
    claim(() => this.elsewhere(true)).then(() => this.own());
    addEventListener('beforeunload', (event) => this.unsaved && !this.leaving && event.preventDefault());
    addEventListener('pagehide', () => this.flush());
    addEventListener('visibilitychange', () => this.flush());
  }

  /** Remember that a section changed. loud: it is work that a project file does not have yet. */
  keep(name, { loud = true } = {}) {
    this.later(name, () => this.sections[name].get(), loud);
  }
  keepEntry(key, entry) {
    this.later(key, () => entry, true);
  }

  later(key, read, loud) {
    if (this.opening) return;
    if (loud) {
      if (!this.touched) navigator.storage?.persist?.().catch(() => {}); // browsers short of room leave such work alone
      this.unsaved = this.touched = true;
    }
    this.waiting.set(key, read);
    this.timer ||= setTimeout(() => this.flush(), SOON);
  }

  async flush() {
    clearTimeout(this.timer);
    this.timer = 0;
    if (!this.owned || this.writing || !this.waiting.size) return;
    const taken = [...this.waiting].map(([key, read]) => [key, read, read()]);
    this.waiting.clear();
    this.writing = this.written(taken.map(([key, , value]) => [key, value]));
    const left = await this.writing;
    this.writing = null;
    const newer = this.waiting.size > 0;
    for (const [key, read] of taken) if (left.has(key) && !this.waiting.has(key)) this.waiting.set(key, read);
    clearTimeout(this.again);
    if (newer) this.flush();
    else if (left.size) this.again = setTimeout(() => this.flush(), AGAIN);
  }

  /** Writes pairs; one by one where there is no room for all of them. Which keys are left, as a Set; said once. */
  async written(pairs) {
    const left = new Set();
    let why = null;
    const attempt = async (some) => {
      try {
        await write([...some, ['unsaved', this.unsaved]]);
      } catch (error) {
        why = error;
        if (some.length === 1) left.add(some[0][0]);
        else for (const pair of some) await attempt([pair]);
      }
    };
    await attempt(pairs);
    const failed = left.size > 0;
    if (failed !== this.failed) this.notKept(failed ? t('project.full', { error: why.message }) : '');
    this.failed = failed;
    return left;
  }

  /** Said once, and written in the project's menu for as long as it is so. */
  notKept(words) {
    $('not-kept').textContent = words;
    $('not-kept').hidden = !words;
    if (words) toast(words, { wrong: true, seconds: 12 });
  }

  /**
   * What is kept, as a Map. Where that cannot be read nothing is written either: it may well be there the next time.
   */
  async readKept() {
    try {
      return await readAll();
    } catch (error) {
      this.unread = true;
      this.owned = false;
      this.notKept(t('project.unread', { error: error.message }));
      return new Map();
    }
  }

  /** The mark at the project's menu: another window keeps its work, this one does not. */
  elsewhere(on) {
    $('elsewhere').hidden = !on;
    if (on) toast(t('project.elsewhere'), { seconds: 20 });
  }

  /** This window keeps its work from now on: at once, or when the other window was closed. */
  async own() {
    if (!$('elsewhere').hidden) await this.takeOver();
    this.owned = !this.unread;
    this.flush();
  }

  async takeOver() {
    this.elsewhere(false);
    toast(t('project.here'), { seconds: 9 });
    if (!this.touched) {
      await this.restore();
      return;
    } // nothing was done here: the other one's work goes on
    const kept = await this.readKept();
    if (this.unread) return;
    const lost = [];
    for (const [name, section] of Object.entries(this.sections)) {
      // its drawings are one step back
      if (!section.under || !(kept.get(name)?.at > 0)) continue;
      try {
        await section.under(kept.get(name));
      } catch {
        lost.push(name);
      }
    }
    for (const [name, strip] of Object.entries(this.strips)) {
      // its faces are not lost, with their drawings
      for (const [key, entry] of kept) if (key.startsWith(`${name}/`)) strip.add(entry);
    }
    const { shown, ...last } = kept.get('faces') ?? {};
    if (shown && last.items?.length) this.strips.earlier.add({ ...last, ...shown });
    await this.keepAll();
    this.setAside(kept, lost);
  }

  /** Sections that could not be read stay as they are, under another name. */
  setAside(kept, lost) {
    for (const name of lost) this.later(`lost/${name}`, () => kept.get(name), false);
    if (lost.length)
      toast(t('project.lost', { names: lost.map((name) => t(NAMES[name])).join(', ') }), { wrong: true, seconds: 15 });
  }

  /** All of it is written, in place of whatever was kept before. */
  async keepAll() {
    await this.writing;
    this.waiting.clear();
    for (const key of await keys()) this.later(key, () => undefined, false);
    for (const name of Object.keys(this.sections)) this.keep(name, { loud: false });
    for (const { entries } of Object.values(this.strips))
      for (const { key, entry } of entries) this.later(key, () => entry, false);
  }

  /** What the browser kept the last time. False when that is nothing. */
  async restore() {
    const kept = await this.readKept();
    this.known = kept.size > 0;
    if (!this.known) return false;
    const rows = (name) => [...kept].filter(([key]) => key.startsWith(`${name}/`)).sort(([a], [b]) => (a < b ? -1 : 1));
    const lost = [];
    await this.fill(Object.fromEntries(kept), rows, async (name, error) => {
      console.warn(error);
      lost.push(name);
      await this.sections[name].set(undefined);
    });
    this.unsaved = kept.get('unsaved') === true;
    this.touched = false;
    this.setAside(kept, lost);
    return true;
  }

  /** unreadable(name, error): a section made no sense; without it nothing does. */
  async fill(
    records,
    rows,
    unreadable = (_, error) => {
      throw error;
    },
  ) {
    this.opening = true;
    this.hooks.opening();
    try {
      for (const [name, section] of Object.entries(this.sections)) {
        try {
          await section.set(records[name]);
        } catch (error) {
          await unreadable(name, error);
        }
      }
      for (const [name, strip] of Object.entries(this.strips)) strip.fill(rows(name));
    } finally {
      this.opening = false;
    }
    await this.hooks.opened();
  }

  /**
   * Another project takes the place of this one; undefined: an empty one. Throws for one that makes no sense, and
   * leaves all as it was.
   */
  async replace(records = {}) {
    const rowsOf = (all) => (name) =>
      (all[name] ?? []).map((entry, k) => [`${name}/${String(k + 1).padStart(8, '0')}`, entry]);
    const before = this.collect();
    try {
      await this.fill(records, rowsOf(records));
    } catch (error) {
      await this.fill(before, rowsOf(before));
      await this.keepAll(); // favourites and earlier faces have other keys now
      throw error;
    }
    await this.keepAll();
    this.unsaved = false;
    this.touched = true;
  }

  /** Until everything is written; leaving does not ask then. */
  async settle() {
    do {
      await this.writing;
      await this.flush();
    } while (this.owned && !this.failed && (this.waiting.size || this.writing));
    this.leaving = this.owned && !this.failed;
  }

  collect() {
    const sections = Object.entries(this.sections).map(([name, section]) => [name, section.get()]);
    const strips = Object.entries(this.strips).map(([name, { entries }]) => [
      name,
      entries.map(({ entry }) => entry).reverse(),
    ]);
    return Object.fromEntries([...sections, ...strips]);
  }

  async save() {
    const before = this.unsaved;
    this.unsaved = false; // what is drawn from here on is not in the file
    try {
      save('studio_project.zip', [await writeArchive(this.collect(), await this.hooks.extra())], 'application/zip');
    } catch (error) {
      this.unsaved ||= before;
      if (!(error instanceof TooLarge)) throw error;
      toast(t('project.large', { size: error.size, most: error.most }), { wrong: true, seconds: 15 });
      return false;
    }
    this.later('unsaved', () => this.unsaved, false);
    return true;
  }

  /** A project file, or a picture that carries one: opens it and returns true. False for other files. */
  async open(file) {
    const isNewest = this.newest.begin();
    try {
      const records = await working(() => recordsOf(file), t('file.reading'));
      if (!records) return false;
      await this.exchange(records, isNewest);
    } catch {
      toast(t('project.unreadable', { name: file.name }), { wrong: true, seconds: 9 });
    }
    return true;
  }

  async startAnew() {
    await this.exchange(undefined, this.newest.begin());
  }

  /** Another project in place of this one, unless a newer one was asked for meanwhile: one after the other. */
  exchange(records, isNewest) {
    const mine = this.turn.then(async () => {
      if (isNewest() && (await this.mayGo()) && isNewest())
        await working(() => this.replace(records), records && t('file.reading'));
    });
    this.turn = mine.catch(() => {});
    return mine;
  }

  /** Asks when there is work that no file has: save it, go on without, or stay. */
  async mayGo() {
    if (!this.unsaved) return true;
    const dialog = $('unsaved-dialog');
    dialog.returnValue = '';
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener('close', resolve, { once: true }));
    return dialog.returnValue === 'save' ? this.save() : dialog.returnValue === 'drop';
  }
}

/** The sections in a file; null when it is another kind of file. Throws for a project that makes no sense. */
async function recordsOf(file) {
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, 4).arrayBuffer()));
  if (!head.startsWith('PK') && head !== '\x89PNG') return null;
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (head.startsWith('PK')) return readArchive(bytes);
  const text = await wordsOf(bytes).catch(() => null);
  return text === null ? null : fromPicture(readProject(text), bytes);
}
