// Faces to hand over: single pictures with their project inside, a contact sheet, a zip of all with a table, a film.
import { FORMAT, VERSION } from './archive.js';
import { base64Of, bytesOf } from './bytes.js';
import { captionOf } from './captions.js';
import { loadImage, make, pngUrl } from './dom.js';
import { animated, withWords, withoutWords } from './png.js';
import { link } from './settings.js';
import { t } from './words.js';
import { zip } from './zip.js';

const MOST_PIXELS = 16e6; // of a picture, on phones
const COLUMNS = [
  'file',
  'favourite',
  'model',
  'seed',
  'between',
  'width',
  'style',
  'colours',
  'people',
  'structure',
  'variety',
  'follow',
  'edits',
];

export const nameOf = (item) => `face_${item.between === undefined ? `seed_${item.seed}` : `between_${item.between}`}`;

function canvasOf(width, height) {
  const context = make('canvas', { width, height }).getContext('2d');
  context.imageSmoothingQuality = 'high';
  return context;
}
const pngOf = ({ canvas }) =>
  new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error(t('save.none')))), 'image/png');
  });
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
    bytes = await bytesIn(await pngOf(context));
  }
  const { png, ...face } = item;
  const record = {
    format: FORMAT,
    version: VERSION,
    face: other ? { ...face, resized: { from: item.size, to: side, by: 'smooth' } } : face,
    sections,
  };
  if (other) record.face.png = png; // the face itself, as the model made it
  return [
    `${nameOf(item)}${other ? `_${side}px_from_${item.size}px` : ''}.png`,
    await withWords(bytes, JSON.stringify(record)),
  ];
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

/**
 * How a face was made, for the file beside it. values: the settings that it was made with. usual: the model's
 * truncation.
 */
export function recipe({ model, seed, seeds, between, size }, values, usual) {
  if (between !== undefined) return { model, between, seeds, size };
  return { ...values, truncation: values.truncation ?? usual, seed, size, link: link(values) };
}

const cell = (value) =>
  /[",\n]/.test(String(value ?? '')) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? '');

/** The table of faces, as comma-separated values. rows: [[file name, item], ...]. */
export function table(rows) {
  const lines = rows.map(([file, item]) => {
    const { settings = {} } = item;
    const edits = Object.entries(settings.edits ? JSON.parse(settings.edits) : {})
      .map(([name, value]) => `${name}=${value}`)
      .join(' ');
    const first = [
      file,
      item.favourite ? 'yes' : '',
      item.model,
      item.seeds?.join(' ') ?? item.seed,
      item.between,
      item.size,
    ];
    if (item.between !== undefined) return first.map(cell).join(',') + ','.repeat(COLUMNS.length - first.length);
    return [
      ...first,
      settings.style,
      settings.fine,
      settings.middle,
      settings.coarse,
      settings.truncation,
      settings.follow,
      edits,
    ]
      .map(cell)
      .join(',');
  });
  return `${[COLUMNS.join(','), ...lines].join('\r\n')}\r\n`;
}

/** All faces in one archive, with the table. */
export async function allFaces(items) {
  const rows = items.map((item, k) => [`${String(k + 1).padStart(3, '0')}_${nameOf(item)}.png`, item]);
  const pictures = rows.map(([name, item]) => [name, bytesOf(item.png)]);
  const codes = rows
    .filter(([, item]) => item.latent)
    .map(([name, item]) => [name.replace('.png', '.npy'), bytesOf(item.latent)]);
  return zip([['faces.csv', new TextEncoder().encode(table(rows))], ...pictures, ...codes]);
}

const [GAP, WORDS] = [16, 24]; // pixels around faces, and for what is written below

/** How `count` faces of `size` pixels lie on a sheet that every browser can make: smaller ones where there are many. */
export function sheetOf(count, size) {
  const columns = Math.ceil(Math.sqrt(count * 1.2));
  const rows = Math.ceil(count / columns);
  const whole = (side) => ({
    columns,
    side,
    width: columns * (side + GAP) + GAP,
    height: rows * (side + GAP + WORDS) + GAP,
  });
  let sheet = whole(Math.min(256, Math.max(128, size)));
  while (sheet.width * sheet.height > MOST_PIXELS && sheet.side > 16) sheet = whole(sheet.side - 1);
  return sheet;
}

/** All faces on one white sheet with their words below. */
export async function contactSheet(items) {
  const { columns, side, width, height } = sheetOf(items.length, items[0].size);
  const context = canvasOf(width, height);
  Object.assign(context, { fillStyle: '#fff', font: '12px sans-serif', textBaseline: 'top' });
  context.fillRect(0, 0, width, height);
  context.fillStyle = '#333';
  for (const [k, item] of items.entries()) {
    const [x, y] = [GAP + (k % columns) * (side + GAP), GAP + Math.floor(k / columns) * (side + GAP + WORDS)];
    context.drawImage(await loadImage(pngUrl(item.png)), x, y, side, side);
    context.fillText(captionOf(item), x, y + side + 6, side);
  }
  return pngOf(context);
}

/** Pictures (base64) from A to B and back, as an animated PNG. */
export function film(pictures, milliseconds = 70) {
  const there = pictures.map(bytesOf);
  return animated([...there, ...there.slice(1, -1).reverse()], milliseconds);
}
