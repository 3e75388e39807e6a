// Tests of how faces are asked for, shown, named and handed over; run by test_studio_page.py.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test, { beforeEach } from 'node:test';
import { anew, element, pause, toasts, until } from './fakes.mjs';
import { use } from './static/words.js';

const { Between } = await import('./static/between.js');
const { captionOf, factsInWords, factsOf } = await import('./static/captions.js');
const { recipe, sheetOf, table } = await import('./static/export.js');
const { Importer, facePhoto } = await import('./static/importer.js');
const { Maker } = await import('./static/maker.js');
const { Newest } = await import('./static/newest.js');
const { Results } = await import('./static/results.js');
const { DEFAULTS, change, link, settings } = await import('./static/settings.js');
const words = (language) => JSON.parse(readFileSync(`static/words/${language}.json`));

/** Requests that are answered by hand: {path, signal, answer(content)}. */
let requests = [];
globalThis.fetch = (path, { signal } = {}) =>
  new Promise((resolve, reject) => {
    signal?.addEventListener('abort', () => reject(new DOMException('', 'AbortError')));
    requests.push({ path, answer: (content) => resolve({ ok: true, json: async () => content, headers: new Map() }) });
  });
const answer = (...pictures) => ({
  pictures,
  model: 'm',
  device: 'cpu (2 threads)',
  seconds: { network: 0.07, waiting: 0, loading: 0 },
});

beforeEach(() => {
  use(words('en'));
  requests = [];
  anew();
  Object.assign(settings, DEFAULTS);
});

function between(shown) {
  const made = new Between({
    show: (item) => shown.push(item.between),
    kept() {},
    selected: () => ({ png: 'x', latent: 'YQ==', model: 'm', seed: 5 }),
  });
  made.slider.value = 0.5;
  return made;
}

test('an answer that comes late from between two faces is not shown once others were asked for', async () => {
  const shown = [];
  const made = between(shown);
  made.set('a', { latent: 'YQ==', model: 'm', seed: 3 });
  made.set('b', { latent: 'YQ==', model: 'm', seed: 7 });
  await until(() => requests.length === 1);
  const maker = new Maker({ asked: () => made.stop(), busy() {}, source: () => null, model: () => ({}) });
  maker.ask();
  requests[0].answer(answer({ seed: 0 }));
  await pause(50);
  assert.deepEqual(shown, []);
  made.go();
  await until(() => requests.length === 2);
  requests[1].answer(answer({ seed: 0 }));
  await until(() => shown.length);
  const [item, facts] = made.made.get(0.5);
  assert.deepEqual([item.seeds, item.between, facts.device], [[3, 7], 0.5, 'cpu']);
});

test('an empty end takes the face that is selected', () => {
  const made = between([]);
  element('end-b').click();
  assert.equal(made.ends.b.seed, 5);
  made.restore({});
  made.hooks.selected = () => null;
  element('end-b').click();
  assert.deepEqual([made.ends.b, toasts()], [null, []]);
});

test('faces come with what was there when they were asked for', async () => {
  const made = [];
  let drawing = 'first';
  const maker = new Maker({
    asked() {},
    busy() {},
    replaced: () => false,
    model: () => ({}),
    stylePhoto: () => null,
    source: async () => ({ from: drawing, image: new Blob(['png']) }),
    made: (given, how, from) => made.push([how, from]),
  });
  maker.ask('now');
  await until(() => requests.length === 1);
  drawing = 'second';
  maker.ask('done'); // is being waited for when the first answer comes
  requests[0].answer(answer());
  await until(() => made.length);
  assert.deepEqual(made, [['now', 'first']]);
  await until(() => requests.length === 2);
  requests[1].answer(answer());
  await until(() => made.length === 2);
  assert.deepEqual(made[1], ['done', 'second']);
});

test('the face that was selected stays so among new ones', async () => {
  const results = new Results({ select() {}, chosen() {} });
  const faces = (...seeds) => seeds.map((seed) => ({ png: `${seed}`, seed, size: 8 }));
  await results.show(faces(3));
  await results.show(faces(1, 2, 3, 4));
  assert.equal(results.at, 2);
  await results.show(faces(50, 51, 52, 53));
  assert.equal(results.at, 2);
  await results.show([{ png: 'a', seed: 0, between: 0.5, size: 8 }], { at: 0 });
  await results.show(faces(4, 3, 0));
  assert.equal(results.at, 0);
});

test('faces are named in the language in which they are shown', () => {
  const facts = factsOf({ ...answer(), seconds: { network: 1.25, waiting: 0.75, enhancing: 2 } });
  for (const [language, caption, seconds] of [
    ['en', 'Seed 7', '1.25 s on cpu, 2.0 s enhancing, 0.8 s in line'],
    ['de', 'Startzahl 7', '1,25 s auf cpu, 2,0 s verfeinert, 0,8 s gewartet'],
  ]) {
    use(words(language), language);
    assert.equal(captionOf({ seed: 7 }), caption);
    assert.equal(factsInWords(facts), seconds);
  }
  use(words('en'));
  assert.equal(captionOf({ seed: 0, between: 0.25 }), 'A to B, 25 %');
  assert.equal(captionOf({ model: 'celebs_seg_to_face', title: 'Labels to face' }), 'Areas to face');
  assert.deepEqual([captionOf({ seed: 1, words: 'kept before' }), factsInWords('as well')], ['kept before', 'as well']);
});

test('what is saved beside a face is what it was made with', () => {
  const values = { ...DEFAULTS, model: 'm', seed: 9, truncation: null };
  change({ seed: 77, example: 'sketch/a' });
  assert.ok(!('example' in settings));
  const saved = recipe({ model: 'm', seed: 10, size: 64 }, values, 0.7);
  assert.deepEqual([saved.seed, saved.truncation, saved.link], [10, 0.7, '/#model=m&seed=9']);
  assert.equal(recipe({ seed: 1 }, { ...values, truncation: 0.4 }, 0.7).truncation, 0.4);
  assert.match(link(), /seed=77/);
  const item = { model: 'm', seed: 0, seeds: [3, 7], between: 0.5, size: 64, settings: values };
  assert.deepEqual(recipe(item, values, 0.7), { model: 'm', between: 0.5, seeds: [3, 7], size: 64 });
  const [head, row] = table([['a.png', item]]).split('\r\n');
  assert.equal(row, 'a.png,,m,3 7,0.5,64,,,,,,,');
  assert.equal(row.split(',').length, head.split(',').length);
});

test('a contact sheet of many faces has smaller ones', () => {
  assert.deepEqual(sheetOf(4, 256), { columns: 3, side: 256, width: 832, height: 608 });
  for (const count of [1, 9, 100, 480]) {
    const { width, height, side } = sheetOf(count, 1024);
    assert.ok(width * height <= 16e6 && side > 64, `${count}`);
  }
});

test('of two photos for a style the last one counts, and the page is busy until both are there', async () => {
  const newest = new Newest();
  const photo = (name) => facePhoto(Promise.resolve(new File([''], name)), newest.begin());
  const both = [photo('first'), photo('second')];
  await until(() => requests.length === 2);
  requests[1].answer({ png: 'second', notes: ['no face was found: the middle of the picture is used'] });
  assert.equal(await both[1], 'second');
  assert.match(toasts()[0], /No face was found in second/);
  await pause(80);
  assert.equal(element('results').attributes['aria-busy'], 'true');
  requests[0].answer({ png: 'first', notes: [] });
  assert.equal(await both[0], null);
  await until(() => element('results').attributes['aria-busy'] === 'false');
});

test('notes of the server are known whatever number is in them, and an example that is gone is said', async () => {
  const about = { examples: [], sketch_styles: [], parser: true, limits: { body: 1e7 } };
  const importer = new Importer(about, { tab: () => 'photo', show() {}, project: async () => false, close() {} });
  use(words('de'), 'de');
  const opened = importer.take(new File(['x'], 'many.jpg'));
  await until(() => requests.length === 1);
  requests[0].answer({
    kind: 'photo',
    read_as: 'photo',
    png: 'good',
    sure: true,
    notes: ['the largest of 12 faces, aligned', 'odd'],
  });
  await opened;
  assert.equal(element('source-words').children[1], ': das größte von 12 Gesichtern, ausgerichtet, odd');
  globalThis.fetch = async () => {
    throw new TypeError('offline');
  };
  await importer.example({ kind: 'photo', name: 'a', url: 'gone' });
  assert.match(toasts().at(-1), /Beispiel war nicht zu bekommen/);
});
