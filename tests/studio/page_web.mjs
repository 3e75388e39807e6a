// Tests of the page without a server, with a worker that only answers; run by test_studio_page.py.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { until } from './fakes.mjs';
import { use } from './web/words.js';

const workers = [];
/** answers(message) -> what comes back, or nothing. */
let answers = () => ({ result: { threads: 1 } });
globalThis.Worker = class extends EventTarget {
  constructor() {
    super();
    this.asked = [];
    workers.push(this);
  }
  terminate() {
    this.ended = true;
  }
  postMessage(message) {
    this.asked.push(message);
    const data = message.id && answers(message);
    if (data)
      setImmediate(() =>
        this.dispatchEvent(Object.assign(new Event('message'), { data: { id: message.id, seconds: 0.1, ...data } })),
      );
  }
};
const files = { 'about.json': { labels: [] }, 'models.json': [{ id: 'a' }, { id: 'b' }, { id: 'c' }] };
globalThis.fetch = async (name) => ({ json: async () => files[name] });
use(JSON.parse(readFileSync('web/words/de.json')), 'de');
const { get, post } = await import('./web/api.js');
const states = async () => (await get('api/models')).models.map(({ state }) => state);

test('the other models are read once there is nothing else to do', async () => {
  answers = ({ model }) => (model.id === 'c' ? { error: 'no network', status: 500 } : { result: { threads: 2 } });
  await post('api/load', { model: 'a' });
  await until(async () => (await states())[0] === 'ready');
  assert.deepEqual((await states()).slice(1), ['cold', 'cold']);
  await until(() => workers[0].asked.some(({ model }) => model?.id === 'c'));
  await until(async () => (await states())[2] !== 'loading');
  assert.deepEqual(await states(), ['ready', 'ready', 'cold'], 'one that fails meanwhile is not said to have failed');
  await post('api/load', { model: 'c' });
  await until(async () => (await states())[2] === 'failed');
});

test('what the worker refuses is said in the language of the page', async () => {
  answers = () => ({ error: 'web.no-map', status: 400 });
  await assert.rejects(post('api/labels', { image: null }), /zeigt keine Flächen/);
});

test('a worker that ends is followed by another one', async () => {
  answers = () => null;
  const asked = post('api/generate', { model: 'a' });
  await until(() => workers[0].asked.at(-1).what === 'generate');
  workers.at(-1).dispatchEvent(new Event('error'));
  await assert.rejects(asked, /nicht gestartet/);
  assert.ok(workers.at(-1).ended);
  answers = () => ({ result: ['face'] });
  assert.deepEqual((await post('api/generate', { model: 'a' })).pictures, ['face']);
  assert.equal(workers.length, 2);
});
