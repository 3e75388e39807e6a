// Faces to hand over: single pictures with their project inside, a contact sheet, a zip of all with a table, a film.
import { FORMAT, VERSION } from './archive.js';
import { base64Of, bytesOf } from './bytes.js';
import { loadImage, make, pngUrl } from './dom.js';
import { animated, withWords, withoutWords } from './png.js';
import { zip } from './zip.js';

const COLUMNS = ['file', 'favourite', 'model', 'seed', 'between', 'width', 'style', 'colours', 'people', 'structure', 'variety', 'follow', 'edits'];

export const nameOf = (item) => `face_${item.between === undefined ? `seed_${item.seed}` : `between_${item.between}`}`;

function canvasOf(width, height) {
  const context = make('canvas', { width, height }).getContext('2d');
  context.imageSmoothingQuality = 'high';
  return context;
}
const blobOf = (context) => new Promise((resolve) => context.canvas.toBlob(resolve, 'image/png'));
const bytesIn = async (blob) => new Uint8Array(await blob.arrayBuffer());

/**
 * One face as [name, bytes] of a PNG that carries the project it came from. side: its width in pixels, 0 for its own; a
 * larger one is enlarged smoothly by the browser, and both name and record say so.
 */
export async function picture(item, sections, side = 0) {
  let bytes = bytesOf(item.png);
  const other = side && side !== item.size;
  if (other) {
    const context = canvasOf(side, side);
    context.drawImage(await loadImage(pngUrl(item.png)), 0, 0, side, side);
    bytes = await bytesIn(await blobOf(context));
  }
  const { png, ...face } = item;
  const record = { format: FORMAT, version: VERSION, face: other ? { ...face, resized: { from: item.size, to: side, by: 'smooth' } } : face, sections };
  if (other) record.face.png = png; // the face itself, as the model made it
  return [`${nameOf(item)}${other ? `_${side}px_from_${item.size}px` : ''}.png`, await withWords(bytes, JSON.stringify(record))];
}

/** The sections in a picture that `picture` made, with the face itself among them. */
export function fromPicture({ sections, face }, bytes) {
  if (!face) return sections;
  const item = { png: base64Of(withoutWords(bytes)), ...face };
  const { faces = {}, pictures = {} } = sections;
  const { kind, settings } = faces.shown ?? {};
  const elsewhere = {
    locked: faces.locked ?? null,
    drawing: kind === 'photo' ? { photo: pictures.photo } : sections[kind],
    style: settings?.style === 'photo' ? pictures.style : null,
  };
  const shown = faces.shown && { ...elsewhere, ...faces.shown }; // files of before have all of it in `shown`
  return { ...sections, faces: { ...faces, shown, items: [item], at: 0 } };
}

const cell = (value) => (/[",\n]/.test(String(value ?? '')) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? ''));

/** The table of faces, as comma-separated values. rows: [[file name, item], ...]. */
export function table(rows) {
  const lines = rows.map(([file, item]) => {
    const { settings = {} } = item;
    const edits = Object.entries(settings.edits ? JSON.parse(settings.edits) : {}).map(([name, value]) => `${name}=${value}`).join(' ');
    return [file, item.favourite ? 'yes' : '', item.model, item.seed, item.between, item.size, settings.style, settings.fine, settings.middle, settings.coarse, settings.truncation, settings.follow, edits].map(cell).join(',');
  });
  return `${[COLUMNS.join(','), ...lines].join('\r\n')}\r\n`;
}

/** All faces in one archive, with the table. */
export async function allFaces(items) {
  const rows = items.map((item, k) => [`${String(k + 1).padStart(3, '0')}_${nameOf(item)}.png`, item]);
  const pictures = rows.map(([name, item]) => [name, bytesOf(item.png)]);
  const codes = rows.filter(([, item]) => item.latent).map(([name, item]) => [name.replace('.png', '.npy'), bytesOf(item.latent)]);
  return zip([['faces.csv', new TextEncoder().encode(table(rows))], ...pictures, ...codes]);
}

/** All faces on one white sheet with their words below. */
export async function contactSheet(items) {
  const columns = Math.ceil(Math.sqrt(items.length * 1.2));
  const [side, gap, words] = [Math.min(256, Math.max(128, items[0].size)), 16, 24];
  const rows = Math.ceil(items.length / columns);
  const context = canvasOf(columns * (side + gap) + gap, rows * (side + gap + words) + gap);
  Object.assign(context, { fillStyle: '#fff', font: '12px sans-serif', textBaseline: 'top' });
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  context.fillStyle = '#333';
  for (const [k, item] of items.entries()) {
    const [x, y] = [gap + (k % columns) * (side + gap), gap + Math.floor(k / columns) * (side + gap + words)];
    context.drawImage(await loadImage(pngUrl(item.png)), x, y, side, side);
    context.fillText(item.words, x, y + side + 6, side);
  }
  return blobOf(context);
}

/** Pictures (base64) from A to B and back, as an animated PNG. */
export function film(pictures, milliseconds = 70) {
  const there = pictures.map(bytesOf);
  return animated([...there, ...there.slice(1, -1).reverse()], milliseconds);
}
