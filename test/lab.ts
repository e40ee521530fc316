/** The ground that tests on real kernels, Docker Engines and Open vSwitch stand on. See lab.test.ts for its use. */
export * from './lab/capability.ts';
export * from './lab/ground.ts';
export * from './lab/judge.ts';
export * from './lab/judges.ts';
export * from './lab/run.ts';
export * from './lab/snapshot.ts';
export * from './lab/sniff.ts';
