// Two faces side by side, as large as the window lets them be.
import { captionOf } from './captions.js';
import { $, make, pngUrl } from './dom.js';

export function compare(first, second) {
  $('compare-faces').replaceChildren(
    ...[first, second].map((item) =>
      make(
        'figure',
        {},
        make('img', { src: pngUrl(item.png), alt: captionOf(item) }),
        make('figcaption', {}, captionOf(item)),
      ),
    ),
  );
  $('compare-dialog').showModal();
}
