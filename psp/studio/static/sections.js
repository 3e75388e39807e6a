// What a project consists of, and what of it a saved face carries.
import { toast } from './dom.js';
import { needed, same } from './drawing.js';
import { KINDS } from './page.js';
import { DEFAULTS, onlySettings, setExample, settings, shownExample } from './settings.js';
import { t } from './words.js';

/**
 * Each section knows how to become a plain record and how to come back from one. page: see page.js; lock(face) and
 * showPhoto() show what came back.
 */
export const sectionsOf = (page, { lock, showPhoto }) => ({
  settings: {
    get: () => ({
      kind: page.state.kind,
      values: { ...settings },
      example: shownExample(),
      tools: { sketch: page.tools.sketch.chosen(), labels: page.tools.labels.chosen() },
    }),
    set: (record) => {
      Object.assign(settings, DEFAULTS, onlySettings(record?.values));
      page.state.kind = KINDS.includes(record?.kind) ? record.kind : 'sketch';
      if (!page.models.find(settings.model)) {
        if (record?.values?.model) toast(t('model.missing', { name: record.values.model }), { seconds: 9 });
        settings.model = (record && page.models.forKind(page.state.kind)?.id) ?? page.models.chosen;
      }
      setExample(record?.example ?? '');
      for (const kind of ['sketch', 'labels']) page.tools[kind].restore(record?.tools?.[kind]);
    },
  },
  ...Object.fromEntries(
    ['sketch', 'labels'].map((kind) => [
      kind,
      {
        get: () => page.pads[kind].kept(),
        set: (record) => page.pads[kind].restore(record, true),
        under: (record) => beneath(page.pads[kind], record),
      },
    ]),
  ),
  pictures: {
    get: () => ({
      photo: { png: page.state.photo },
      style: { png: page.controls.png },
      reference: page.reference.chosen(),
    }),
    set: (record) => {
      page.state.photo = record?.photo?.png ?? null;
      showPhoto();
      page.controls.setPhoto(record?.style?.png ?? null);
      page.reference.restore(record?.reference);
    },
  },
  faces: {
    get: () => ({
      items: page.results.items,
      at: page.results.at,
      facts: page.results.facts,
      shown: page.state.shown,
      locked: page.state.locked,
      locks: page.state.locks,
      ...page.between.ends,
    }),
    set: async (record) => {
      page.results.clear();
      Object.assign(page.state, { shown: record?.shown, grid: null, locks: { ...record?.locks } });
      page.between.restore(record);
      lock(record?.locked ?? null, { quietly: true });
      if (record?.items?.length) await page.results.show(record.items, { facts: record.facts, at: record.at });
    },
  },
});

/** Another drawing that was kept, one step back from the one that is there; in its place where that is still blank. */
async function beneath(pad, record) {
  if (!pad.canUndo && !pad.canRedo) {
    await pad.restore(record, true);
    return;
  }
  const own = pad.snapshot();
  await pad.restore({ ...record, steps: record.steps.slice(0, record.at) });
  await pad.restore(own);
}

/**
 * The project that a saved face carries: what it came from, and no photo or drawing that it did not come from. What
 * stands elsewhere in it is left out of `shown`, see `fromPicture`. origin: as page.js makes it.
 */
export function pictureSections({ kind, drawing, locked, style, settings: values }, sections) {
  const { photo = { png: null }, steps } = drawing;
  return {
    settings: { ...sections.settings.get(), kind, values },
    ...(kind === 'photo' ? {} : { [kind]: steps ? { steps: needed(steps) } : drawing }),
    pictures: { photo, style: style ?? { png: null } },
    faces: { locked, shown: { kind, settings: values } },
  };
}

/** Whether two origins give the same faces: with a locked one, the drawing does not count. */
export function sameFaces(one, other) {
  const counts = ({ settings: { live, ...values }, kind, locked, drawing, style } = { settings: {} }) => ({
    values: Object.entries(values).sort(),
    style: style?.png,
    ...(locked ? { locked: locked.png } : { kind, drawing }),
  });
  return same(counts(one), counts(other));
}

/** The drawing as pictures that other programs read. */
export async function drawings(pads) {
  const drawn = ['sketch', 'labels'].filter((kind) => !pads[kind].empty);
  return Promise.all(
    drawn.map(async (kind) => [`${kind}.png`, new Uint8Array(await (await pads[kind].blob()).arrayBuffer())]),
  );
}
