// Tests of what the browser keeps: projects that are read, written, opened and taken over; run by test_studio_page.py.
import assert from 'node:assert/strict';
import test, { beforeEach } from 'node:test';
import { anew, asked, element, kept, pause, toasts, until } from './fakes.mjs';
import { use } from './static/words.js';
import { readFileSync } from 'node:fs';

const { Project } = await import('./static/project.js');
const { sectionsOf } = await import('./static/sections.js');
const { named, readAll, write } = await import('./static/store.js');
const { writeArchive } = await import('./static/archive.js');
use(JSON.parse(readFileSync('static/words/en.json')));

class Row {
  entries = [];
  fill(pairs) {
    this.entries = pairs.map(([key, entry]) => ({ key, entry })).reverse();
  }
  add(entry) {
    this.entries.unshift({ key: `earlier/${this.entries.length + 1}`, entry });
  }
}

/** A project of two sections; `sketch` refuses 'absurd', and takes as long as its value says. */
function projectOf({ sections = {}, ...hooks } = {}) {
  const now = { settings: undefined, sketch: undefined };
  const section = (name) => ({
    get: () => now[name],
    set: async (value) => {
      await pause(value?.slow ?? 0);
      if (value === 'absurd') throw new Error('makes no sense');
      now[name] = value;
    },
  });
  const all = { settings: section('settings'), sketch: section('sketch'), ...sections };
  const project = new Project(
    all,
    { favourites: new Row(), earlier: new Row() },
    { opening() {}, opened() {}, extra: async () => [], ...hooks },
  );
  return { project, now };
}
const fileOf = async (sections) => new File([await writeArchive(sections)], 'project.zip');
const row = (key) => kept.rows.get(key);

beforeEach(() => {
  Object.assign(kept, { rows: new Map(), broken: null, refuses: () => false, there: true });
  anew();
  for (const id of ['elsewhere', 'not-kept']) element(id).hidden = true;
});

test('a section that cannot be read does not take the others with it, and stays', async () => {
  kept.rows = new Map([
    ['settings', 'mine'],
    ['sketch', 'absurd'],
    ['favourites/1', { items: [1] }],
  ]);
  const { project, now } = projectOf();
  await until(() => project.owned);
  await project.restore();
  assert.deepEqual(now, { settings: 'mine', sketch: undefined });
  assert.equal(project.strips.favourites.entries.length, 1);
  assert.match(toasts().at(-1), /Could not be read again: Sketch/);
  now.sketch = 'new';
  project.keep('sketch');
  await project.settle();
  assert.deepEqual([row('lost/sketch'), row('sketch'), row('settings')], ['absurd', 'new', 'mine']);
});

test('what cannot be read at all is not overwritten', async () => {
  kept.rows.set('sketch', 'mine');
  kept.broken = new DOMException('damaged', 'UnknownError');
  const { project, now } = projectOf();
  await project.restore();
  assert.match(toasts().at(-1), /could not be read.*damaged/);
  assert.ok(!element('not-kept').hidden);
  now.sketch = 'new';
  project.keep('sketch');
  await project.settle();
  await pause(100);
  assert.equal(row('sketch'), 'mine');
  assert.ok(!project.leaving);
});

test('a database that was closed is opened again', async () => {
  await write([['sketch', 1]]);
  kept.opened.at(-1).closed = true; // and nobody says so
  await write([['sketch', 2]]);
  assert.equal((await readAll()).get('sketch'), 2);
  const last = kept.opened.at(-1);
  last.onversionchange();
  assert.ok(last.closed);
  assert.equal((await readAll()).get('sketch'), 2);
});

test('work asks for room that is not cleared, once', async () => {
  const { project } = projectOf();
  asked.persist = 0;
  project.keep('settings', { loud: false });
  assert.equal(asked.persist, 0);
  for (let k = 0; k < 3; k += 1) project.keep('sketch');
  assert.equal(asked.persist, 1);
});

test('what is drawn while a project is being saved is not saved', async () => {
  let finish;
  const { project } = projectOf({
    extra: () =>
      new Promise((resolve, reject) => {
        finish = { resolve, reject };
      }),
  });
  globalThis.URL.createObjectURL = () => '';
  for (const drawn of [true, false]) {
    project.keep('sketch');
    const saved = project.save();
    if (drawn) project.keep('sketch');
    finish.resolve([]);
    assert.equal(await saved, true);
    assert.equal(project.unsaved, drawn);
  }
  project.keep('sketch');
  const failing = project.save();
  finish.reject(new Error('gone'));
  await assert.rejects(failing, /gone/);
  assert.ok(project.unsaved);
});

test('a window that takes over has the drawings of the other one below its own', async () => {
  const below = [];
  const under = async (record) => {
    below.push(record);
  };
  const { project, now } = projectOf({
    sections: { labels: { get: () => 'labels', under }, faces: { get: () => 'faces' } },
  });
  project.sections.sketch.under = under;
  await until(() => project.owned);
  project.owned = false;
  kept.rows = new Map([
    ['sketch', { at: 3, steps: [] }],
    ['labels', { at: 0 }],
  ]);
  now.sketch = 'mine';
  project.keep('sketch');
  project.elsewhere(true);
  await project.own();
  await project.settle();
  assert.deepEqual(below, [{ at: 3, steps: [] }]);
  assert.equal(row('sketch'), 'mine');
});

test('the drawing of another window is one step back, or there where nothing was drawn', async () => {
  for (const canUndo of [true, false]) {
    const calls = [];
    const pad = {
      canUndo,
      canRedo: false,
      snapshot: () => 'mine',
      restore: async (record, fresh = false) => calls.push([record, fresh]),
    };
    const { sketch } = sectionsOf({ pads: { sketch: pad } }, {});
    const record = { steps: [1, 2, 3], at: 2 };
    await sketch.under(record);
    assert.deepEqual(
      calls,
      canUndo
        ? [
            [{ steps: [1, 2], at: 2 }, false],
            ['mine', false],
          ]
        : [[record, true]],
    );
  }
});

test('favourites keep their keys when a project could not be opened', async () => {
  const { project, now } = projectOf();
  await until(() => project.owned);
  now.sketch = 'mine';
  project.strips.favourites.entries = [{ key: 'favourites/00000007', entry: { items: [7] } }];
  await project.keepAll();
  await project.settle();
  await assert.rejects(project.replace({ sketch: 'absurd' }), /no sense/);
  await project.settle();
  assert.equal(now.sketch, 'mine');
  const [{ key }] = project.strips.favourites.entries;
  assert.deepEqual(
    [...kept.rows.keys()].filter((name) => name.startsWith('favourites/')),
    [key],
  );
});

test('of two projects that are opened shortly after each other the second is there', async () => {
  const { project, now } = projectOf();
  const files = [
    await fileOf({ settings: 'first', sketch: { slow: 60 } }),
    await fileOf({ settings: 'second', sketch: 'second' }),
  ];
  const [first] = files;
  first.arrayBuffer = async () => {
    await pause(80);
    return File.prototype.arrayBuffer.call(first);
  };
  await Promise.all(files.map((file) => project.open(file)));
  assert.deepEqual(now, { settings: 'second', sketch: 'second' });
  delete first.arrayBuffer;
  const one = project.open(first);
  while (!project.opening) await pause(5);
  await Promise.all([one, project.open(files[1])]);
  assert.deepEqual(now, { settings: 'second', sketch: 'second' });
  assert.equal(element('results').attributes['aria-busy'], 'true');
  await until(() => element('results').attributes['aria-busy'] === 'false');
});

test('pages of one site keep their work apart', () => {
  assert.deepEqual(['/', '/index.html', '/psp/', '/psp/index.html'].map(named), [
    'studio',
    'studio',
    'studio/psp/',
    'studio/psp/',
  ]);
});

test('a browser that keeps nothing says so, and leaving asks', async () => {
  kept.there = false;
  await readAll();
  kept.opened.at(-1)?.onclose(); // nothing can be opened any more
  const { project } = projectOf();
  await until(() => project.owned);
  project.keep('sketch');
  await project.settle();
  assert.ok(!project.leaving && project.failed && !element('not-kept').hidden);
  assert.match(toasts().at(-1), /could not keep this/);
  clearTimeout(project.again);
});
