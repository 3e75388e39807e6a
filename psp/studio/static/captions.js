// What faces are called and what is said of how long they took: put into words when they are shown, in the language of
// then.
import { knows, number, t } from './words.js';

/** The names of bundled models are known in every language; those of files are theirs. */
export const titleOf = ({ id, title }) => (knows(`model.${id}`) ? t(`model.${id}`) : title);

/** A face is called by its seed, by its place between two others, or, where there is no seed, by its model. */
export function captionOf({ between, seed, model, title, words }) {
  if (between !== undefined) return t('between.at', { percent: Math.round(100 * between) });
  if (words) return words; // an older version kept it so
  return title === undefined ? t('face.seed', { seed }) : titleOf({ id: model, title });
}

/** About an answer of the server, as a plain record. */
export const factsOf = ({ seconds, device }) => ({ ...seconds, device: device.split(' ')[0] });

/** Such a record in words. */
export function factsInWords(facts) {
  if (typeof facts === 'string') return facts; // an older version kept it so
  const { network, enhancing, waiting, device } = facts;
  const words = [t('facts.seconds', { seconds: number(network, 2), device })];
  if (enhancing) words.push(t('facts.enhancing', { seconds: number(enhancing, 1) }));
  if (waiting > 0.5) words.push(t('facts.waiting', { seconds: number(waiting, 1) }));
  return words.join(', ');
}
