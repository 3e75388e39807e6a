// What comes back: earlier faces, projects, and what a link says.
import { showKind, showPhoto } from './canvases.js';
import { lock } from './faces.js';
import { Newest } from './newest.js';
import { callOff, isEmpty, keepEarlier, origin, page } from './page.js';
import { sameFaces } from './sections.js';
import { change, settings, shownExample } from './settings.js';

const restoring = new Newest();

/** An earlier face or a favourite with its drawing, which is one step back from the one that was there. */
export async function restore(entry) {
  const { state, models, maker, controls, importer, project } = page;
  const isNewest = restoring.begin();
  callOff();
  keepEarlier();
  importer.stop();
  const { model } = entry.settings;
  change({ ...entry.settings, live: settings.live, model: models.find(model) ? model : models.chosen });
  maker.cancel();
  showKind(entry.kind);
  if (entry.kind === 'photo') {
    state.photo = entry.drawing.photo?.png;
    showPhoto();
  } else await page.pads[entry.kind].restore(entry.drawing);
  if (!isNewest()) return;
  lock(entry.locked, { quietly: true });
  controls.setPhoto(entry.style?.png ?? controls.png);
  controls.show();
  maker.cancel();
  state.shown = {
    settings: entry.settings,
    kind: entry.kind,
    locked: entry.locked,
    drawing: entry.drawing,
    style: entry.style,
  };
  state.grid = null;
  await page.results.show(entry.items, { facts: entry.facts, at: entry.at });
  for (const name of Object.keys(project.sections)) project.keep(name);
}

/** Another project is coming: what is still on its way belongs to the one before. */
export function opening() {
  page.importer.stop();
  restoring.stop();
}

/** Another project is there: the page shows it, and its faces are made again where they are not all there. */
export async function opened() {
  const { state, models, maker, results } = page;
  callOff();
  models.choose(settings.model);
  showKind(state.kind);
  page.controls.show();
  change({});
  maker.cancel();
  if (isEmpty()) return;
  const whole =
    (results.items.length && results.items.length === settings.n) || results.selected?.between !== undefined;
  if (!whole) maker.ask('now');
  else if (!sameFaces(state.shown, origin())) maker.ask(); // changed since, and closed before they came
}

/** The page was opened with a link, which comes on top of what was kept, unless it was only loaded again. */
export async function follow(wanted) {
  const { models, project } = page;
  const reloaded = performance.getEntriesByType('navigation')[0]?.type !== 'navigate' && project.known;
  if (reloaded) return;
  if (!project.known) models.choose(models.find(wanted.model) ? wanted.model : settings.model);
  await useLink(wanted);
}

/** The settings of a link, and its example if that is not there already. */
export async function useLink({ example, ...values }) {
  if (!page.models.find(values.model)) delete values.model;
  if (Object.entries(values).some(([name, value]) => settings[name] !== value)) change(values);
  if (example && example !== shownExample()) await page.importer.named(example);
}
