// The models, run by onnxruntime in WebAssembly beside the page, so that the page stays quick. One request at a time.
import * as ort from './ort/ort.wasm.min.js';
import { base64Of } from './bytes.js';
import { between, fromNpy, mixed, toNpy } from './codes.js';
import { noise } from './noise.js';
import { DOUBT, drawn } from './drawn.js';
import { SIDE, labelNumbers, labelPixels, sketchPixels } from './pictures.js';
import { palettePng } from './png.js';
import { CodeSpace } from './space.js';

const MOST_PIXELS = 64e6;
const runtime = (ending) => new URL(`ort/ort-wasm-simd-threaded.${ending}`, import.meta.url).href;
ort.env.wasm.wasmPaths = { mjs: runtime('js'), wasm: runtime('wasm') }; // hosts need not know of .mjs
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;

const sessions = new Map();
const spaces = new Map();
const cancelled = new Set();
let queue = Promise.resolve();

/** message: a key of words/, or what nobody reads. */
class Refused extends Error {
  constructor(message, status = 400) {
    super(message);
    this.status = status;
  }
}

function session(address) {
  if (!sessions.has(address)) {
    const opened = ort.InferenceSession.create(new URL(`../${address}`, import.meta.url).href, {
      executionProviders: ['wasm'],
    });
    sessions.set(address, opened);
    opened.catch(() => sessions.delete(address));
  }
  return sessions.get(address);
}

async function run(address, inputs) {
  const results = await (await session(address)).run(inputs);
  return Object.values(results)[0];
}

/** The CodeSpace of a model. */
function spaceOf(model) {
  const address = new URL(`../${model.space.file}`, import.meta.url).href;
  if (!spaces.has(address)) {
    const read = (async () =>
      new CodeSpace(model.space, new Uint8Array(await (await fetch(address)).arrayBuffer()), model.style_dim))();
    spaces.set(address, read);
    read.catch(() => spaces.delete(address));
  }
  return spaces.get(address);
}

const floats = (values, ...shape) => new ort.Tensor('float32', values, shape);

/** What act(picture) makes of the picture in a file. */
async function withPicture(blob, options, act) {
  let image;
  try {
    image = await createImageBitmap(blob, options);
  } catch {
    throw new Refused('web.unreadable', 415);
  }
  try {
    if (image.width * image.height > MOST_PIXELS) throw new Refused('web.large', 413);
    return act(image);
  } finally {
    image.close(); // or it stays in memory for long
  }
}

/** RGBA pixels of a file, as they are in it. */
const pixelsOf = (blob) =>
  withPicture(blob, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' }, (image) => {
    const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, image.width, image.height);
  });

/** The middle square of a photo at 256 px, RGBA. */
const middleOf = (blob) =>
  withPicture(blob, {}, (image) => {
    const side = Math.min(image.width, image.height);
    const context = new OffscreenCanvas(SIDE, SIDE).getContext('2d');
    context.imageSmoothingQuality = 'high';
    context.drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, SIDE, SIDE);
    return context.getImageData(0, 0, SIDE, SIDE).data;
  });

async function picturePng(rgba, side) {
  const canvas = new OffscreenCanvas(side, side);
  canvas.getContext('2d').putImageData(new ImageData(rgba, side, side), 0, 0);
  return base64Of(new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer()));
}

const greyPng = (grey) =>
  picturePng(
    Uint8ClampedArray.from({ length: 4 * grey.length }, (_, k) => (k % 4 === 3 ? 255 : grey[k >> 2])),
    SIDE,
  );

async function encoded(model, blob) {
  const picture = await pixelsOf(blob);
  let image;
  if (model.input === 'labels') {
    const ids = labelNumbers(picture, model.colours);
    if (!ids) throw new Refused('web.no-map');
    image = new ort.Tensor('uint8', labelPixels(ids), [1, SIDE, SIDE]);
  } else
    image = floats(
      Float32Array.from(sketchPixels(picture).pixels, (value) => value / 255),
      1,
      1,
      SIDE,
      SIDE,
    );
  return (await run(model.files.encoder, { image })).data;
}

async function latentOf(model, blob) {
  const codes = fromNpy(new Uint8Array(await blob.arrayBuffer()), model.layers, model.style_dim);
  if (!codes) throw new Refused('web.no-code');
  return codes;
}

/** What the generator makes of codes; a message between pictures may say that nobody wants the rest. */
async function faces(id, model, all) {
  const pictures = [];
  for (const { codes, seed } of all) {
    await new Promise((done) => {
      setTimeout(done);
    });
    if (cancelled.delete(id)) throw new Refused('A newer request took its place.', 409);
    const { data } = await run(model.files.generator, { codes: floats(codes, 1, model.layers, model.style_dim) });
    const area = model.size ** 2;
    const rgba = new Uint8ClampedArray(4 * area).fill(255);
    for (let k = 0; k < area; k += 1) {
      // cut off to whole levels, as the server does
      for (let c = 0; c < 3; c += 1) rgba[4 * k + c] = Math.trunc(((data[c * area + k] + 1) / 2) * 255);
    }
    pictures.push({
      seed,
      size: model.size,
      png: await picturePng(rgba, model.size),
      latent: base64Of(toNpy(codes, model.layers, model.style_dim)),
    });
  }
  return pictures;
}

const handlers = {
  async load({ model }) {
    for (const address of Object.values(model.files)) await session(address);
    await spaceOf(model);
    return { threads: ort.env.wasm.numThreads };
  },

  async generate({ id, model, image, latent, n, seed, style, coarse, middle, fine, truncation, vary, follow, edits }) {
    const space = await spaceOf(model);
    const strengths = edits ? JSON.parse(edits) : {};
    const edited = (codes) => space.edited(codes, strengths);
    const own = latent ? await latentOf(model, latent) : space.followed(await encoded(model, image), follow ?? 1);
    if (style === 'own') return faces(id, model, [{ codes: edited(own), seed }]);
    const people = vary === 'people';
    const seeds = Array.from({ length: n }, (_, k) => seed + k);
    const z = new Float32Array(n * model.style_dim);
    seeds.forEach((one, k) => z.set(noise(one, model.style_dim), k * model.style_dim));
    const wide = model.layers * model.style_dim;
    const usual = people ? 1 : model.truncation; // people are to differ
    const { data } = await run(model.files.mapping, {
      z: floats(z, n, model.style_dim),
      truncation: floats([truncation ?? usual], 1),
    });
    const shares = { coarse, middle, fine };
    return faces(
      id,
      model,
      seeds.map((one, k) => {
        let [codes, styles] = [own, data.subarray(k * wide, (k + 1) * wide)];
        if (people) styles = space.people(own, styles);
        for (const [band, layers] of Object.entries(model.band_layers)) {
          if (shares[band] > 0) codes = mixed(codes, styles, layers, shares[band], model.style_dim);
        }
        return { codes: edited(codes), seed: one };
      }),
    );
  },

  async interpolate({ id, model, a, b, at }) {
    const [first, second] = [await latentOf(model, a), await latentOf(model, b)];
    return faces(
      id,
      model,
      at.map((position) => ({ codes: between(first, second, position), seed: 0 })),
    );
  },

  /** A file for a canvas. kind: 'open' finds out which. */
  async prepare({ kind, image, prefer, colours }) {
    if (kind === 'photo')
      return {
        kind,
        read_as: 'photo',
        notes: ['cropped to the middle square'],
        png: await picturePng(await middleOf(image), SIDE),
      };
    const picture = await pixelsOf(image);
    const ids = kind === 'sketch' ? null : labelNumbers(picture, colours);
    if (ids && (kind === 'labels' || prefer === 'labels' || new Set(ids.data).size > 1)) {
      const blob = await palettePng(labelPixels(ids), SIDE, colours);
      return { kind: 'labels', read_as: 'map', notes: [], png: base64Of(new Uint8Array(await blob.arrayBuffer())) };
    }
    if (kind === 'labels') throw new Refused('web.no-map');
    const likely = kind === 'open' ? drawn(picture) : 1;
    if (likely < -DOUBT) throw new Refused('web.photo', 422);
    const { pixels, notes } = sketchPixels(picture);
    return { kind: 'sketch', read_as: 'drawing', notes, png: await greyPng(pixels) };
  },
};

addEventListener('message', ({ data }) => {
  if (data.cancel) {
    cancelled.add(data.cancel);
    return;
  }
  queue = queue.then(async () => {
    const started = performance.now();
    try {
      if (cancelled.delete(data.id)) throw new Refused('A newer request took its place.', 409);
      const result = await handlers[data.what](data);
      postMessage({ id: data.id, result, seconds: (performance.now() - started) / 1000 });
    } catch (error) {
      postMessage({ id: data.id, error: error.message, status: error.status ?? 500 });
    }
  });
});
