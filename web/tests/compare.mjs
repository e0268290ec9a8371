// Differences between numbers and the reference's.

import assert from 'node:assert/strict';

/** Largest absolute difference of a logit that is no fault. */
export const TOLERANCE = 1e-3;

/** The largest difference of two lists of numbers of the same length. */
export function difference(got, wanted) {
  assert.equal(got.length, wanted.length);
  return got.reduce((most, x, i) => {
    const apart = Math.abs(x - wanted[i]);
    // A NaN is as far as can be.
    return apart <= most ? most : Number.isNaN(apart) ? Infinity : apart;
  }, 0);
}
