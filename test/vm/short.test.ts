/**
 * A part of kernel.test.ts, beside the rest of the suite where a machine can be started: it takes what the others leave of the
 * processors, and ends early where that is too little.
 */
import test from 'node:test';
import { shortTests } from './kernel-tests.ts';
import { onDebian } from './on-debian.ts';

const minutes = 60_000;

test("on Debian's kernel, in short", { timeout: 20 * minutes }, (t) =>
  onDebian(t, shortTests, { up: 5 * minutes, all: 13 * minutes }),
);
