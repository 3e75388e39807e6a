// One piece of work: kept in the browser section by section as it changes, and saved as a file when asked.
import { readArchive, readProject, writeArchive } from './archive.js';
import { $, save, toast } from './dom.js';
import { fromPicture } from './export.js';
import { wordsOf } from './png.js';
import { claim, readAll, wipe, write } from './store.js';
import { t } from './words.js';

const SOON = 40; // ms; what changes together is written together

export class Project {
  /**
   * sections: {name: {get() -> plain record, set(record or undefined)}}. strips: {name: Strip}, kept entry by entry.
   * opened(): another project is there. extra(): pictures of the drawing for other programs, [[name, bytes], ...].
   */
  constructor(sections, strips, hooks) {
    Object.assign(this, { sections, strips, hooks, waiting: new Map(), timer: 0, writing: null, unsaved: false, owned: claim() });
    this.owned.then((owned) => owned || toast(t('project.elsewhere'), { seconds: 20 }));
    addEventListener('beforeunload', (event) => this.unsaved && !this.leaving && event.preventDefault());
    addEventListener('pagehide', () => this.flush());
    addEventListener('visibilitychange', () => this.flush());
  }

  /** Remember that a section changed. loud: it is work that a project file does not have yet. */
  keep(name, { loud = true } = {}) { this.later(name, () => this.sections[name].get(), loud); }
  keepEntry(key, entry) { this.later(key, () => entry, true); }

  later(key, read, loud) {
    if (this.opening) return;
    if (loud) this.unsaved = true;
    this.waiting.set(key, read);
    this.timer ||= setTimeout(() => this.flush(), SOON);
  }

  async flush() {
    clearTimeout(this.timer);
    this.timer = 0;
    if (!(await this.owned) || this.writing || !this.waiting.size) return;
    const pairs = [...this.waiting].map(([key, read]) => [key, read()]);
    this.waiting.clear();
    this.writing = write([...pairs, ['unsaved', this.unsaved]]);
    try {
      await this.writing;
    } catch (error) {
      toast(t('project.full', { error: error?.message ?? '' }), { wrong: true, seconds: 12 });
    }
    this.writing = null;
    if (this.waiting.size) this.flush();
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
    } catch (error) {
      console.warn(error);
      toast(t('project.unreadable', { name: t('project') }), { wrong: true, seconds: 9 });
      await this.fill({}, () => []);
    }
    return true;
  }

  async fill(records, rows) {
    this.opening = true;
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
    const rows = rowsOf(records);
    try {
      await this.fill(records, rows);
    } catch (error) {
      await this.fill(before, rowsOf(before));
      throw error;
    }
    this.waiting.clear();
    if (await this.owned) await wipe();
    for (const name of Object.keys(this.sections)) this.keep(name, { loud: false });
    for (const name of Object.keys(this.strips)) for (const [key, entry] of rows(name)) this.later(key, () => entry, false);
    this.unsaved = false;
  }

  /** Until everything is written; leaving does not ask then. */
  async settle() {
    this.leaving = await this.owned;
    while (await this.owned && (this.waiting.size || this.writing)) { await this.flush(); await this.writing; }
  }

  collect() {
    const sections = Object.entries(this.sections).map(([name, section]) => [name, section.get()]);
    const strips = Object.entries(this.strips).map(([name, { entries }]) => [name, entries.map(({ entry }) => entry).reverse()]);
    return Object.fromEntries([...sections, ...strips]);
  }

  async save() {
    save('studio_project.zip', [await writeArchive(this.collect(), await this.hooks.extra())], 'application/zip');
    this.unsaved = false;
    this.later('unsaved', () => false, false);
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
    if (dialog.returnValue === 'save') await this.save();
    return ['save', 'drop'].includes(dialog.returnValue);
  }
}
