// The menu that saves faces.
import { $, busy, make, save, toast } from './dom.js';
import { allFaces, contactSheet, film, nameOf, picture } from './export.js';
import { bytesOf } from './bytes.js';
import { closeAll } from './popups.js';
import { t } from './words.js';

const SIDES = [0, 128, 256, 512];

/**
 * hooks: item(): the selected face; sections(): the project that goes into its picture; settings(): as saved in JSON;
 * all(): {items, favourites}: what a sheet or an archive holds; between: Between.
 */
export function saving(hooks) {
  $('save-size').append(...SIDES.map((side) => make('option', { value: side })));
  $('save-menu').addEventListener('toggle', () => {
    const size = hooks.item()?.size;
    for (const option of $('save-size').options) {
      const side = Number(option.value);
      option.textContent = !side
        ? t('save.own', { size })
        : side > size
          ? t('save.enlarged', { side, size })
          : `${side} px`;
    }
    const { items, favourites } = hooks.all();
    $('save-which').textContent = t(favourites ? 'save.favourites' : 'save.everything', { n: items.length });
  });
  const on = (id, act) =>
    $(id).addEventListener('click', async () => {
      closeAll();
      busy('saving', true);
      try {
        await act();
      } catch (error) {
        toast(error.message, { wrong: true });
      } finally {
        busy('saving', false);
      }
    });
  on('save-picture', async () => {
    const [name, bytes] = await picture(hooks.item(), hooks.sections(), Number($('save-size').value));
    save(name, [bytes], 'image/png');
  });
  on('save-latent', () =>
    save(`${nameOf(hooks.item())}.npy`, [bytesOf(hooks.item().latent)], 'application/octet-stream'),
  );
  on('save-settings', () =>
    save(`${nameOf(hooks.item())}.json`, [JSON.stringify(hooks.settings(), null, 2)], 'application/json'),
  );
  on('save-sheet', async () => save('contact_sheet.png', [await contactSheet(hooks.all().items)], 'image/png'));
  on('save-all', async () => save('faces.zip', [await allFaces(hooks.all().items)], 'application/zip'));
  on('film', async () => save('a_to_b.png', [film(await hooks.between.frames())], 'image/png'));
}
