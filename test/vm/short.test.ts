/**
 * A part of kernel.test.ts, after the rest of the suite where a machine can be started; it ends early where this machine is too
 * slow for it.
 */
import test from 'node:test';
import { shortTests } from './kernel-tests.ts';
import { onDebian } from './on-debian.ts';

const minutes = 60_000;

test("on Debian's kernel, in short", { timeout: 10 * minutes }, (t) =>
  onDebian(t, shortTests, { up: 4 * minutes, all: 7 * minutes }),
);
