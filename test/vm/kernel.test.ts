/** What needs a full kernel, run on Debian's in a virtual machine. */
import test from 'node:test';
import { kernelTests } from './kernel-tests.ts';
import { onDebian } from './on-debian.ts';

test("on Debian's kernel", { timeout: 3_600_000 }, (t) => onDebian(t, kernelTests));
