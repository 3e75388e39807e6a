// Tests of the page's modules that need no browser; run by test_studio_page.py.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import test from 'node:test';
import { serialize } from 'node:v8';
import { TooLarge, readArchive, writeArchive } from './static/archive.js';
import { base64Of, bytesOf, joined, through, unpacked } from './static/bytes.js';
import {
  SIDE,
  bounds,
  current,
  eraserWidth,
  exact,
  inside,
  live,
  needed,
  pack,
  packChanges,
  packIds,
  same,
  shape,
  under,
  unpack,
  unpackChanges,
  unpackIds,
} from './static/drawing.js';
import { fromPicture, table } from './static/export.js';
import { History } from './static/history.js';
import { difference, nearestIds } from './static/labelpad.js';
import { PARTS, part } from './static/parts.js';
import { animated, chunks, palettePng, withWords, withoutWords, wordsOf } from './static/png.js';
import { dragged } from './static/select.js';
import { editsText, readAddress } from './static/settings.js';
import { pictureSections, sameFaces } from './static/sections.js';
import { holds } from './static/strip.js';
import { within } from './static/view.js';
import { language, t, use } from './static/words.js';
import { unzip, zip } from './static/zip.js';

const text = (bytes) => new TextDecoder().decode(bytes);
const utf8 = (words) => new TextEncoder().encode(words);
const png = async (id) =>
  new Uint8Array(await (await palettePng(new Uint8Array(64).fill(id), 8, ['#000000', '#ff0000'])).arrayBuffer());
const line = (...points) => ({ tool: 'pen', width: 2, points: points.map(([x, y]) => ({ x, y, pressure: null })) });
const strokes = (...all) => ({ kind: 'strokes', strokes: all });

test('undo goes back to the beginning, however far that is, and something new ends what could be done again', () => {
  const history = new History();
  for (let k = 0; k < 5000; k += 1) history.push(k);
  for (let k = 4999; k >= 0; k -= 1) assert.equal(history.back(), k);
  assert.equal(history.back(), null);
  assert.equal(history.forth(), 0);
  history.push('new');
  assert.equal(history.forth(), null);
  assert.deepEqual(history.done, [0, 'new']);
});

test('zips of other programs are read, and they read ours', async () => {
  const theirs = await unzip(new Uint8Array(readFileSync('theirs.zip')));
  assert.equal(text(theirs.get('folder/ä.txt')), 'words '.repeat(1000));
  assert.equal(text(theirs.get('stored.txt')), 'stored');
  writeFileSync(
    'ours.zip',
    await zip([
      ['folder/ä.txt', utf8('words '.repeat(1000))],
      ['a.png', await png(1)],
    ]),
  );
});

test('a zip file gives back what went in', async () => {
  const files = [
    ['project.json', utf8('{"ä": 1}'.repeat(500))],
    ['ordner/ü.png', await png(1)],
    ['empty', new Uint8Array()],
  ];
  const bytes = await zip(files);
  const read = await unzip(bytes);
  assert.deepEqual(
    [...read.keys()],
    files.map(([name]) => name),
  );
  for (const [name, content] of files) assert.deepEqual(read.get(name), content);
  assert.ok(bytes.length < 3000);
  assert.deepEqual(await zip(files), bytes);
});

test('damaged zip files are refused', async () => {
  const bytes = await zip([
    ['a.txt', utf8('words '.repeat(300))],
    ['b.png', utf8('stored')],
  ]);
  await assert.rejects(unzip(utf8('no zip')), /no zip/);
  await assert.rejects(unzip(bytes.subarray(0, bytes.length - 30)), /no zip/);
  for (const at of [36, bytes.indexOf(115, 80)]) {
    const wrong = bytes.slice();
    wrong[at] ^= 255;
    await assert.rejects(unzip(wrong));
  }
  const huge = bytes.slice();
  const directory = new DataView(huge.buffer).getUint32(huge.length - 6, true);
  new DataView(huge.buffer).setUint32(directory + 24, 4e9, true);
  await assert.rejects(unzip(huge), /too much/);
});

test('a project keeps its pictures and codes as files, each once', async () => {
  const [one, two, code] = [base64Of(await png(0)), base64Of(await png(1)), base64Of(utf8('code'))];
  const sections = {
    faces: { items: [{ png: one, latent: code, seed: 3 }, { png: two }, { png: one }] },
    sketch: { steps: [], at: 0 },
  };
  const bytes = await writeArchive(sections, [['sketch.png', await png(0)]]);
  assert.deepEqual(
    [...(await unzip(bytes)).keys()],
    ['project.json', 'steps.jsonl', 'sketch.png', 'pictures/0001.png', 'codes/0002.npy', 'pictures/0003.png'],
  );
  assert.deepEqual(await readArchive(bytes), sections);
  await assert.rejects(readArchive(await zip([['other.json', utf8('{}')]])), /no project/);
  await assert.rejects(
    readArchive(await zip([['project.json', utf8('{"format": "psp-studio", "version": 99, "sections": {}}')]])),
    /no project/,
  );
});

test('a project keeps each step of its drawings once, and is not saved when it could not be opened again', async () => {
  const steps = Array.from(
    { length: 300 },
    (_, k) => pack([strokes(line(...Array.from({ length: 40 }, (__, n) => [n % 7, k + n])))])[0],
  );
  const other = structuredClone(steps); // as the browser gives them back
  const picture = { kind: 'image', png: base64Of(await png(1)) };
  const sections = {
    sketch: { steps: [{ kind: 'replace', steps: [picture, ...other] }, ...steps], at: 1 },
    earlier: [{ drawing: { steps } }, { drawing: { steps: other.slice(5) } }],
  };
  const bytes = await writeArchive(sections);
  const files = await unzip(bytes);
  assert.equal(text(files.get('steps.jsonl')).split('\n').length, 302);
  assert.ok(files.get('project.json').length < 5000);
  assert.deepEqual(await readArchive(bytes), sections);
  const before = await zip([
    [
      'project.json',
      utf8(JSON.stringify({ format: 'psp-studio', version: 1, sections: { earlier: sections.earlier } })),
    ],
  ]);
  assert.deepEqual(await readArchive(before), { earlier: sections.earlier });
  await assert.rejects(writeArchive(sections, [], 20000), (error) => error instanceof TooLarge && error.most === 0);
});

test('a picture carries words, long ones too, and is the same picture without them', async () => {
  const plain = await png(1);
  const scanned = randomBytes(300000).toString('base64'); // does not get smaller
  for (const words of [
    '{"seed": 7, "who": "Zoë 漢字"}',
    scanned,
    JSON.stringify(Array.from({ length: 200000 }, (_, k) => k % 977)),
  ]) {
    const bytes = await withWords(plain, words);
    assert.equal(await wordsOf(bytes), words);
    assert.deepEqual(withoutWords(bytes), plain);
  }
  assert.equal(await wordsOf(plain), null);
  await assert.rejects(wordsOf(utf8('no picture at all')), /no PNG/);
  await assert.rejects(wordsOf(plain.subarray(0, 60)), /damaged/);
});

test('a saved face comes back as its project, with the face itself', async () => {
  const plain = await png(0);
  const sections = { settings: { kind: 'sketch' }, faces: { locked: null } };
  const back = fromPicture({ sections, face: { seed: 4, size: 8 } }, await withWords(plain, 'words'));
  assert.deepEqual(back.faces.items, [{ png: base64Of(plain), seed: 4, size: 8 }]);
  assert.deepEqual(back.settings, sections.settings);
});

test('a saved face carries once what it came from, and nothing that cannot be seen any more', async () => {
  const picture = (png_) => ({ kind: 'image', png: png_ });
  const values = { style: 'photo', seed: 1 };
  const shown = {
    kind: 'sketch',
    settings: values,
    locked: { png: 'locked' },
    style: { png: 'colours' },
    drawing: {
      steps: [picture('first'), ...pack([strokes(line([1, 2]))]), picture('second'), ...pack([strokes(line([3, 4]))])],
    },
  };
  const sections = pictureSections(shown, { settings: { get: () => ({ tools: {} }) } });
  const text_ = JSON.stringify(sections);
  for (const name of ['second', 'locked', 'colours'])
    assert.equal(text_.split(`"${name}"`).length - 1, name === 'locked' ? 2 : 1, name); // once as a key
  assert.ok(!text_.includes('"first"'));
  const { faces } = fromPicture({ sections: JSON.parse(text_), face: { seed: 1 } }, await png(0));
  assert.ok(sameFaces(faces.shown, { ...shown, drawing: { steps: shown.drawing.steps.slice(2) } }));
  const before = { ...sections, faces: { shown } }; // as it was saved before
  assert.deepEqual(fromPicture({ sections: before, face: {} }, await png(0)).faces.shown, shown);
});

test('an animated picture has all frames, numbered in order', async () => {
  const frames = [await png(0), await png(1), await png(0)];
  const all = [...chunks(new Uint8Array(await animated(frames, 70).arrayBuffer()))];
  assert.deepEqual(
    all.map(([name]) => name),
    ['IHDR', 'acTL', 'PLTE', 'fcTL', 'IDAT', 'fcTL', 'fdAT', 'fcTL', 'fdAT', 'IEND'],
  );
  const order = all
    .filter(([name]) => /^f.AT$|fcTL/.test(name))
    .map(([, data]) => new DataView(data.buffer, data.byteOffset).getUint32(0));
  assert.deepEqual(order, [0, 1, 2, 3, 4]);
  const [, still] = [...chunks(frames[1])].find(([name]) => name === 'IDAT');
  assert.deepEqual(all[6][1].subarray(4), still);
});

test('a drawing is kept exactly', async () => {
  const wild = {
    tool: 'pencil',
    width: 3.5,
    points: [
      { x: 12.3456, y: -7.1, pressure: null },
      { x: 255.99, y: 1e6, pressure: 0.4567 },
    ].map(exact),
  };
  const steps = [
    strokes(line([1, 2], [3, 4])),
    { kind: 'image', png: 'abc', image: 'decoded abc' },
    strokes(wild),
    { kind: 'change', at: [0], scale: [1, 2], shift: [3, 4] },
    { kind: 'clear' },
  ];
  const kept = JSON.parse(JSON.stringify(pack(steps)));
  assert.equal(kept[1].image, undefined);
  assert.deepEqual(await unpack(kept, async (png_) => `decoded ${png_}`), steps);
  assert.equal(pack(steps)[0], pack(steps)[0], 'packed once');
  assert.deepEqual(await unpack([{ kind: 'strokes', strokes: [{ width: 2, points: [] }] }, { kind: 'new' }]), []);
});

test('of a drawing only what shows is needed', () => {
  const [first, second, picture, clear] = [
    strokes(line([1, 2])),
    strokes(line([3, 4])),
    { kind: 'image', png: 'a' },
    { kind: 'clear' },
  ];
  assert.deepEqual(needed([first, second]), [first, second]);
  assert.deepEqual(needed([first, picture, second]), [picture, second]);
  assert.deepEqual(needed([picture, first, clear, second]), [second]);
  assert.deepEqual(needed([picture, { kind: 'replace', steps: [first, clear] }]), []);
  assert.deepEqual(live(needed([first, picture, second])), live([first, picture, second]));
});

test('a drawing that comes back again and again is kept once', async () => {
  const drawing = Array.from({ length: 20 }, (_, n) => strokes(line(...Array.from({ length: 50 }, (__, k) => [k, n]))));
  const other = [...drawing.slice(0, 10), strokes(line([200, 200]))];
  const entries = [drawing, other].map((steps) => pack(steps));
  const history = new History([...drawing]);
  const small = serialize(pack(history.steps)).length;
  for (let k = 0; k < 40; k += 1) history.push({ kind: 'replace', steps: await unpack(entries[k % 2]) });
  assert.ok(serialize(pack(history.steps)).length < 2 * small);
  const kept = structuredClone(entries[0]); // as the browser gives it back
  assert.equal((await unpack(kept))[0], (await unpack(kept))[0]);
  assert.deepEqual(await unpack([7, null, ...kept]), drawing);
});

test('another drawing in place of one is a step that can be taken back', async () => {
  const [first, second, third] = [strokes(line([1, 2])), strokes(line([3, 4])), strokes(line([5, 6]))];
  const steps = [first, { kind: 'replace', steps: [second] }, third];
  assert.deepEqual(live(steps).strokes, [...second.strokes, ...third.strokes]);
  assert.deepEqual(live(steps.slice(0, 1)).strokes, first.strokes);
  assert.deepEqual(current(steps), [second, third]);
  const kept = JSON.parse(JSON.stringify(pack(steps)));
  assert.deepEqual(await unpack(kept), steps);
  assert.ok(same(pack(await unpack(kept)), kept), 'kept and read back it is the same');
  const changes = [
    first,
    { kind: 'change', at: [0], scale: [1, 2], shift: [3, 4] },
    { kind: 'change', at: [0], gone: true },
  ];
  assert.ok(same(pack(await unpack(pack(changes))), pack(changes)));
});

test('a set of faces holds those that came one at a time', () => {
  const entry = (...names) => ({ items: names.map((png_) => ({ png: png_ })) });
  assert.ok(holds(entry('a', 'b', 'c'), entry('a')));
  assert.ok(!holds(entry('a'), entry('a', 'b')));
  assert.ok(!holds(entry('a', 'b'), entry('c')));
});

test('faces are the same when all that counts for them is', () => {
  const origin = {
    settings: { seed: 1, n: 4, live: true },
    kind: 'sketch',
    locked: null,
    drawing: { steps: pack([strokes(line([1, 2]))]) },
  };
  assert.ok(sameFaces(origin, { ...structuredClone(origin), settings: { n: 4, seed: 1, live: false } }));
  assert.ok(!sameFaces(origin, { ...origin, drawing: { steps: [] } }));
  assert.ok(!sameFaces(origin, { ...origin, settings: { seed: 2, n: 4, live: true } }));
  assert.ok(!sameFaces(undefined, origin));
  const styled = { ...origin, style: { png: 'a' } };
  assert.ok(sameFaces(styled, structuredClone(styled)) && !sameFaces(styled, { ...origin, style: { png: 'b' } }));
  const locked = { ...origin, locked: { png: 'a' } };
  assert.ok(sameFaces(locked, { ...locked, drawing: { steps: [] } }) && !sameFaces(locked, origin));
});

test('strokes can be moved, stretched and removed, and numbers stay', () => {
  const steps = [
    strokes(line([10, 10], [20, 20])),
    strokes(line([100, 100], [110, 120])),
    { kind: 'change', at: [1], scale: [2, 1], shift: [0, 5] },
    { kind: 'change', at: [0], gone: true },
  ];
  const { strokes: left, image } = live(steps);
  assert.equal(image, null);
  assert.equal(left[0], null);
  assert.deepEqual(
    left[1].points.map(({ x, y }) => [x, y]),
    [
      [200, 105],
      [220, 125],
    ],
  );
  assert.deepEqual(bounds(left), [200, 105, 220, 125]);
  assert.equal(bounds([null]), null);
  assert.deepEqual(inside(left, [190, 100, 256, 256]), [1]);
  assert.deepEqual(inside(left, [0, 0, 100, 100]), []);
  assert.deepEqual(live([...steps, { kind: 'clear' }]).strokes, []);
  assert.deepEqual(live(steps.slice(0, 2)).strokes[0].points[0].x, 10, 'steps themselves do not change');
});

test('dragging a corner keeps the opposite one', () => {
  const { scale, shift } = dragged([10, 20, 30, 60], [1, -1], 20, 20);
  assert.deepEqual(scale, [2, 0.5]);
  assert.deepEqual([10 * scale[0] + shift[0], 60 * scale[1] + shift[1]], [10, 60]);
  assert.deepEqual(dragged([0, 0, 9, 9], null, 5, 6), { scale: [1, 1], shift: [5, 6] });
  assert.ok(dragged([0, 0, 10, 10], [1, 1], -50, 0).scale[0] > 0);
});

test('held keys make straight lines and ovals', () => {
  assert.deepEqual(
    shape('line', { x: 1, y: 2, pressure: null }, { x: 9, y: 8, pressure: null }).map(({ x }) => x),
    [1, 9],
  );
  assert.deepEqual(bounds([{ points: shape('oval', { x: 60, y: 40 }, { x: 20, y: 100 }) }]), [20, 40, 60, 100]);
  assert.equal(shape('free', {}, {}), null);
  assert.deepEqual(
    shape('line', { x: 1, y: 2, pressure: 0.3 }, { x: 9, y: 8, pressure: 1 }).map(({ pressure }) => pressure),
    [null, null],
    'a line has one width',
  );
});

test('a click takes the topmost line that passes there', () => {
  const all = [line([0, 0], [100, 0]), null, line([50, -50], [50, 50]), { ...line([49, 0], [51, 0]), tool: 'eraser' }];
  assert.deepEqual(under(all, { x: 51, y: 1 }, 6), [2]);
  assert.deepEqual(under(all, { x: 80, y: 5 }, 6), [0]);
  assert.deepEqual(under(all, { x: 80, y: 7 }, 6), []);
  assert.deepEqual(under([line([10, 10])], { x: 12, y: 12 }, 6), [0]);
});

test('a wider eraser never erases less', () => {
  const widths = Array.from({ length: 47 }, (_, k) => eraserWidth(1 + k / 2));
  assert.deepEqual(
    widths,
    widths.toSorted((a, b) => a - b),
  );
  assert.deepEqual([eraserWidth(1), eraserWidth(5.5), eraserWidth(24)], [4, 16, 24]);
});

test('colours that a browser changed a little are still labels', () => {
  assert.deepEqual(
    nearestIds(Uint32Array.of(0xff000000, 0xff0001cb, 0xff000201), [0xff000000, 0xff0000cc]),
    Uint8Array.of(0, 1, 0),
  );
});

test('label maps are kept exactly, and their steps are small', () => {
  const before = new Uint8Array(SIDE * SIDE);
  const after = before.slice().fill(13, 500, 900).fill(4, 65530);
  assert.deepEqual(unpackIds(packIds(after)), after);
  assert.equal(packIds(after).length, 8);
  assert.deepEqual(unpackIds([10, 200, 1e9, 3]).subarray(8, 12), Uint8Array.of(0, 0, 3, 3));
  const step = difference(before, after);
  assert.equal(step.at.length, 406);
  assert.deepEqual([step.from[0], step.to[0], step.at.at(-1)], [0, 13, 65535]);
  assert.equal(difference(after, after.slice()), null);
  const steps = [
    { ...step, filled: [false, true] },
    { ...difference(after, before), filled: [true, false] },
  ];
  const kept = JSON.parse(JSON.stringify(packChanges(steps)));
  assert.deepEqual(kept[0], { at: [500, 400, 65530, 6], from: [406, 0], to: [400, 13, 6, 4], filled: [false, true] });
  assert.deepEqual(unpackChanges(kept), steps);
  assert.deepEqual(
    unpackChanges([{ at: [65535, 9], from: [99, 77], to: [1, 2] }])[0].from.at(0),
    0,
    'no label that is none',
  );
});

test('the sheet always covers its frame', () => {
  assert.equal(within(50, 2, 400), 0);
  assert.equal(within(-1000, 2, 400), -400);
  assert.equal(within(-100, 2, 400), -100);
});

test('every part lies on the sheet', () => {
  for (const name of Object.keys(PARTS)) {
    const box = bounds(part(name));
    assert.ok(box[0] >= 0 && box[1] >= 0 && box[2] <= SIDE && box[3] <= SIDE, name);
    assert.ok(box[2] - box[0] > 10, name);
  }
});

test('the table of faces quotes what has to be quoted', () => {
  const rows = table([
    ['a.png', { model: 'm,1', seed: 3, size: 64, settings: { style: 'random', fine: 1, edits: '{"age":2}' } }],
  ]).split('\r\n');
  assert.equal(rows[0].split(',').length, 13);
  assert.equal(rows[1], 'a.png,,"m,1",3,,64,random,1,,,,,age=2');
});

test('links carry settings and nothing absurd', () => {
  assert.deepEqual(readAddress('#n=4&follow=0.5&edits={"age":1,"x":"y","z":0}'), {
    n: 4,
    follow: 0.5,
    edits: '{"age":1}',
  });
  assert.deepEqual(readAddress('#n=1e9&seed=-1&follow=NaN&edits=[1'), { edits: '' });
  assert.equal(editsText({ age: 0 }), '');
});

test("the language is the one chosen, else the browser's, else English", () => {
  assert.equal(language('ja', ['de-CH']), 'ja');
  assert.equal(language(null, ['pt-BR', 'fr-CA', 'de']), 'fr');
  assert.equal(language('xx', []), 'en');
  use({ hello: 'Hello {name}, {missing}', none: '' });
  assert.equal(t('hello', { name: 'B' }), 'Hello B, {missing}');
  assert.equal(t('none'), '');
  assert.equal(t('unknown'), 'unknown');
});

test('what unpacks to more than it should is refused', async () => {
  const packed = await through(new Uint8Array(3e6), new CompressionStream('deflate'));
  assert.ok(packed.length < 5000);
  assert.equal((await unpacked(packed, 'deflate', 3e6)).length, 3e6);
  await assert.rejects(unpacked(packed, 'deflate', 2e6), /too much/);
});

test('bytes and base64', () => {
  const bytes = Uint8Array.from({ length: 70000 }, (_, k) => k % 256);
  assert.deepEqual(bytesOf(base64Of(bytes)), bytes);
  assert.equal(text(joined([utf8('a'), utf8('bc')])), 'abc');
});
