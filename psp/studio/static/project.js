// One piece of work: kept in the browser section by section as it changes, and saved as a file when asked.
import { TooLarge, readArchive, readProject, writeArchive } from './archive.js';
import { $, save, toast } from './dom.js';
import { fromPicture } from './export.js';
import { wordsOf } from './png.js';
import { claim, keys, readAll, write } from './store.js';
import { t } from './words.js';

const SOON = 40; // ms; what changes together is written together
const AGAIN = 5000; // ms after which what could not be written is tried again

export class Project {
  /**
   * sections: {name: {get() -> plain record, set(record or undefined)}}. strips: {name: Strip}, kept entry by entry.
   * opening(): another project is coming; opened(): it is there. extra(): pictures of the drawing for other programs, [[name, bytes], ...].
   */
  constructor(sections, strips, hooks) {
    Object.assign(this, { sections, strips, hooks, waiting: new Map(), timer: 0, writing: null, unsaved: false, touched: false, failed: false, owned: false });
    claim(() => this.elsewhere(true)).then(() => this.own());
    addEventListener('beforeunload', (event) => this.unsaved && !this.leaving && event.preventDefault());
    addEventListener('pagehide', () => this.flush());
    addEventListener('visibilitychange', () => this.flush());
  }

  /** Remember that a section changed. loud: it is work that a project file does not have yet. */
  keep(name, { loud = true } = {}) { this.later(name, () => this.sections[name].get(), loud); }
  keepEntry(key, entry) { this.later(key, () => entry, true); }

  later(key, read, loud) {
    if (this.opening) return;
    if (loud) this.unsaved = this.touched = true;
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
      try { await write([...some, ['unsaved', this.unsaved]]); } catch (error) {
        why = error;
        if (some.length === 1) left.add(some[0][0]);
        else for (const pair of some) await attempt([pair]);
      }
    };
    await attempt(pairs);
    if (left.size && !this.failed) toast(t('project.full', { error: why?.message ?? '' }), { wrong: true, seconds: 12 });
    this.failed = left.size > 0;
    return left;
  }

  /** The mark at the project's menu: another window keeps its work, this one does not. */
  elsewhere(on) {
    $('elsewhere').hidden = !on;
    if (on) toast(t('project.elsewhere'), { seconds: 20 });
  }

  /** This window keeps its work from now on: at once, or when the other window was closed. */
  async own() {
    if (!$('elsewhere').hidden) await this.takeOver();
    this.owned = true;
    this.flush();
  }

  async takeOver() {
    this.elsewhere(false);
    toast(t('project.here'), { seconds: 9 });
    if (!this.touched) { await this.restore(); return; } // nothing was done here: the other one's work goes on
    const kept = await readAll();
    for (const [name, strip] of Object.entries(this.strips)) { // its faces are not lost, with their drawings
      for (const [key, entry] of kept) if (key.startsWith(`${name}/`)) strip.add(entry);
    }
    const { shown, ...last } = kept.get('faces') ?? {};
    if (shown && last.items?.length) this.strips.earlier.add({ ...last, ...shown });
    await this.keepAll();
  }

  /** All of it is written, in place of whatever was kept before. */
  async keepAll() {
    await this.writing;
    this.waiting.clear();
    for (const key of await keys()) this.later(key, () => undefined, false);
    for (const name of Object.keys(this.sections)) this.keep(name, { loud: false });
    for (const { entries } of Object.values(this.strips)) for (const { key, entry } of entries) this.later(key, () => entry, false);
  }

  /** What the browser kept the last time. False when that is nothing. */
  async restore() {
    const kept = await readAll();
    this.known = kept.size > 0;
    if (!this.known) return false;
    const rows = (name) => [...kept].filter(([key]) => key.startsWith(`${name}/`)).sort(([a], [b]) => (a < b ? -1 : 1));
    try {
      await this.fill(Object.fromEntries(kept), rows);
      this.unsaved = kept.get('unsaved') === true;
      this.touched = false;
    } catch (error) {
      console.warn(error);
      toast(t('project.unreadable', { name: t('project') }), { wrong: true, seconds: 9 });
      await this.fill({}, () => []);
    }
    return true;
  }

  async fill(records, rows) {
    this.opening = true;
    this.hooks.opening();
    try {
      for (const [name, section] of Object.entries(this.sections)) await section.set(records[name]);
      for (const [name, strip] of Object.entries(this.strips)) strip.fill(rows(name));
    } finally {
      this.opening = false;
    }
    await this.hooks.opened();
  }

  /** Another project takes the place of this one; undefined: an empty one. Throws for one that makes no sense, and leaves all as it was. */
  async replace(records = {}) {
    const rowsOf = (all) => (name) => (all[name] ?? []).map((entry, k) => [`${name}/${String(k + 1).padStart(8, '0')}`, entry]);
    const before = this.collect();
    try {
      await this.fill(records, rowsOf(records));
    } catch (error) {
      await this.fill(before, rowsOf(before));
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
    const strips = Object.entries(this.strips).map(([name, { entries }]) => [name, entries.map(({ entry }) => entry).reverse()]);
    return Object.fromEntries([...sections, ...strips]);
  }

  async save() {
    let bytes;
    try {
      bytes = await writeArchive(this.collect(), await this.hooks.extra());
    } catch (error) {
      if (!(error instanceof TooLarge)) throw error;
      toast(t('project.large', { size: error.size, most: error.most }), { wrong: true, seconds: 15 });
      return false;
    }
    save('studio_project.zip', [bytes], 'application/zip');
    this.unsaved = false;
    this.later('unsaved', () => false, false);
    return true;
  }

  /** A project file, or a picture that carries one: opens it and returns true. False for other files. */
  async open(file) {
    const head = new Uint8Array(await file.slice(0, 4).arrayBuffer());
    const kind = String.fromCharCode(...head);
    if (!kind.startsWith('PK') && kind !== '\x89PNG') return false;
    let records;
    const bytes = new Uint8Array(await file.arrayBuffer());
    try {
      if (kind.startsWith('PK')) records = await readArchive(bytes);
      else {
        const text = await wordsOf(bytes).catch(() => null);
        if (text === null) return false;
        records = fromPicture(readProject(text), bytes);
      }
      if (await this.mayGo()) await this.replace(records);
    } catch {
      toast(t('project.unreadable', { name: file.name }), { wrong: true, seconds: 9 });
    }
    return true;
  }

  async startAnew() { if (await this.mayGo()) await this.replace(); }

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
